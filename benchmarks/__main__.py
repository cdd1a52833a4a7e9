"""`python -m benchmarks [SCENARIO ...]`: ours beside a plain diffusers server, as a table."""

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

from benchmarks.scenarios import SCENARIOS, Figures
from benchmarks.servers import Setting
from models.catalog import Catalog, embedded_folder
from models.manifest import ADAPTER_FILE

RESULTS = Path(__file__).parent / "results"
ADAPTERS = 16


def main() -> int:
    """Run the scenarios, print the table, write one JSON file each; 1 where a must fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("scenario", nargs="*", default=[*SCENARIOS], help=", ".join(SCENARIOS))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    unknown = set(options.scenario) - SCENARIOS.keys()
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: one of {', '.join(SCENARIOS)}")
    options.output.mkdir(parents=True, exist_ok=True)
    missed = 0
    with TemporaryDirectory() as home:
        setting = Setting(embedded_folder() / "dogbooth-base", Path(home), options.threads)
        publish_adapters(Path(home) / "models")
        for name in options.scenario:
            figures = SCENARIOS[name](setting)
            missed += not figures["holds"]
            show(name, figures)
            record = {"scenario": name, "machine": machine(options.threads), "figures": figures}
            path = options.output / f"{name}.json"
            path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 1 if missed else 0


def publish_adapters(root: Path) -> None:
    """Sixteen adapters of the embedded base: the shipped one, each weight varied at random."""
    shipped = Catalog([embedded_folder()]).get("dogbooth-breeds")
    state = load_file(shipped.folder / ADAPTER_FILE)
    catalog = Catalog([root])
    for number in range(ADAPTERS):
        generator = torch.Generator().manual_seed(number)
        varied = {
            key: value + 0.1 * value.std() * torch.randn(value.shape, generator=generator).half()
            for key, value in state.items()
        }
        manifest = shipped.manifest.model_copy(update={"name": f"dog-{number:02d}"})
        with catalog.publish(manifest) as folder:
            save_file(varied, folder / ADAPTER_FILE, metadata={"format": "pt"})


def machine(threads: int) -> dict[str, str | int | None]:
    """Where and with what the figures were measured."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        **{name: version(name) for name in ("torch", "diffusers", "transformers", "peft")},
    }


def show(name: str, figures: Figures) -> None:
    """One scenario's part of the table."""
    print(f"\n{name}: {'holds' if figures['holds'] else 'MISSED'} ({figures['must']})")
    for key, value in figures.items():
        if key not in ("holds", "must"):
            print(f"  {key:<18}{_short(value)}", flush=True)


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return "  ".join(f"{key}={_short(each)}" for key, each in value.items())
    return str(value)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m training evaluate MODEL`: judges a model and writes what it found beside it."""

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from models.catalog import Catalog
from models.manifest import Manifest, write_manifest
from training.config import ConfigError
from training.evaluation.animal import evaluate_animal
from training.evaluation.breeds import evaluate_breeds
from training.evaluation.card import model_card
from training.evaluation.cases import prompt_cases
from training.evaluation.drawing import Drawer
from training.evaluation.judge import Judge
from training.evaluation.plots import breed_chart, neighbour_sheet, sample_sheet
from training.evaluation.setting import (
    Bench,
    EvaluateConfig,
    Findings,
    base_of,
    evaluate_prompts,
)
from training.versions import library_versions

EVALUATION_FILE = "evaluation.json"
CARD_FILE = "README.md"


def evaluate(config: EvaluateConfig, catalog: Catalog, home: Path) -> Path:
    """Draw, judge and write; return the folder of the files.

    Into the model's folder (or `config.output`) go `evaluation.json`, `README.md` (the model
    card), `samples.jpg`, `breeds.png`, and `neighbours.jpg`, which shows real photos. The
    manifest in a model's folder gets the main figures. Raises ConfigError, ModelsError or
    DataError before anything is written.
    """
    entry = catalog.get(config.model)
    manifest = entry.manifest
    if (config.clip or config.dino) and manifest.breeds:
        raise ConfigError(
            f"clip, dino: DreamBooth's protocol is for models of one animal; {manifest.name!r} "
            "was taught breeds"
        )
    folder = config.output or entry.folder
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output: {str(folder)!r} is no folder")
    judge = Judge(config.judge)
    with Drawer(catalog, config.seeds, config.device) as drawer:
        bench = Bench(
            config=config,
            manifest=manifest,
            base=base_of(manifest, catalog),
            dataset=config.dataset or recorded_dataset(manifest, home),
            catalog=catalog,
            drawer=drawer,
            judge=judge,
        )
        findings = collect(bench)
        record = rounded(header(bench) | findings.record)
    write(folder, manifest, record, findings)
    if folder == entry.folder:
        write_manifest(folder, manifest.model_copy(update={"evaluation": main_figures(record)}))
    return folder


def collect(bench: Bench) -> Findings:
    """All that applies to the model: its breeds or its animal, and the prompts asked for."""
    config = bench.config
    parts = []
    if bench.manifest.breeds:
        parts.append(evaluate_breeds(bench))
    elif not config.prompts or bench.manifest.instance_prompts:
        parts.append(evaluate_animal(bench))
    if config.prompts:
        parts.append(
            evaluate_prompts(bench, prompt_cases(config.prompts, bench.class_prompt("dog")))
        )
    record: dict[str, Any] = {}
    samples: dict[str, tuple[Tensor, str]] = {}
    for part in parts:
        record |= part.record
        samples |= part.samples
    return Findings(record, samples, parts[0].neighbours)


def recorded_dataset(manifest: Manifest, home: Path) -> Path | None:
    """Where the dataset of the model's training lies by default, if it is there."""
    name = manifest.training.get("config", {}).get("dataset")
    folder = home / "data" / name if name else None
    return folder if folder is not None and folder.is_dir() else None


def header(bench: Bench) -> dict[str, Any]:
    """What was evaluated, how, and with what."""
    manifest, base = bench.manifest, bench.base
    models = [manifest.name] if base is None else [manifest.name, base.name]
    return {
        "model": manifest.name,
        "kind": manifest.kind,
        "base": manifest.base,
        "evaluated": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "settings": {
            "judge": f"efficientnet-{bench.judge.variant}",
            "seeds": bench.config.seeds,
            "steps": manifest.default_steps,
            "guidance_scale": manifest.default_guidance_scale,
            "scheduler": manifest.default_scheduler,
            "resolution": manifest.resolution,
            **bench.drawer.describe(),
            "versions": library_versions(),
        },
        "one_picture": {
            "seconds": bench.drawer.seconds(models, bench.class_prompt("dog")),
            "threads": torch.get_num_threads(),
        },
    }


def main_figures(record: dict[str, Any]) -> dict[str, Any]:
    """What a manifest keeps of an evaluation: the rates and distances of the model's pictures."""
    figures = {
        "judge": record["settings"]["judge"],
        "seeds": record["settings"]["seeds"],
        "evaluated": record["evaluated"],
    }
    for kind in ("drawn", "upscaled", "spanish", "before", "drawn_before", "reconstructed", "real"):
        if kind in record.get("sets", {}):
            figures[kind] = record["sets"][kind]
    figures |= record.get("beside_ceilings", {})
    if "copying" in record:
        figures["copies"] = {
            space: record["copying"][space]["rate"] for space in ("features", "pixels")
        }
    return figures


def write(folder: Path, manifest: Manifest, record: dict[str, Any], findings: Findings) -> None:
    """All files into a hidden folder, then each renamed to its place, `evaluation.json` last."""
    staging = folder / f".evaluation.{uuid4().hex[:8]}"
    staging.mkdir(parents=True)
    try:
        sample_sheet(findings.samples).save(staging / "samples.jpg", quality=80)
        if findings.neighbours is not None:
            neighbour_sheet(findings.neighbours).save(staging / "neighbours.jpg", quality=80)
        if "breeds" in record:
            breed_chart(record, staging / "breeds.png")
        (staging / CARD_FILE).write_text(model_card(manifest, record), encoding="utf-8")
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        (staging / EVALUATION_FILE).write_text(text, encoding="utf-8")
        for path in sorted(staging.iterdir(), key=lambda path: path.name == EVALUATION_FILE):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(staging)


def rounded(value: Any) -> Any:
    """Floats to five significant places: more is noise."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return value

"""What running a lab is: its command, its folder, checkpoints, averages, curves and films."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data.options import Parser
from training.__main__ import add_settings, exit_code, keep_memory
from training.config import ConfigError, build, plain
from training.report import say

T = TypeVar("T")
SAMPLES = "samples.safetensors"
"""What a finished run leaves for the table of scores: bytes `[N, 3, R, R]`."""


class History:
    """The curves of a run and the seconds it took; a part of its checkpoint."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.seconds = list(state_dict["rows"]), state_dict["seconds"]

    def curve(self, key: str) -> tuple[list[float], list[float]]:
        """Steps, and the values of `key` at those that have one."""
        found = [(row["step"], row[key]) for row in self.rows if key in row]
        return [step for step, _ in found], [value for _, value in found]


def open_run(folder: Path, config: Any, fingerprint: str) -> None:
    """Make `folder` the run of these settings and photos: what others left there is removed."""
    text = json.dumps(plain(config) | {"photos": fingerprint}, indent=2) + "\n"
    path = folder / "settings.json"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        say(f"{folder}: a run of other settings or photos, starting anew")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def save_network(network: nn.Module, path: Path) -> None:
    """Write the weights as safetensors."""
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path)


def save_samples(folder: Path, pictures: Tensor, history: History, names: Sequence[str]) -> None:
    """Write bytes `[N, 3, R, R]` and `run.json`, what `python -m training.labs.scores` reads."""
    save_file({"pictures": pictures.contiguous()}, folder / SAMPLES)
    record = {"seconds": round(history.seconds, 3), "breeds": list(names), "curves": history.rows}
    (folder / "run.json").write_text(json.dumps(record) + "\n", encoding="utf-8")


def load_samples(folder: Path) -> tuple[Tensor, dict[str, Any]]:
    """What save_samples wrote; ConfigError where no run was finished."""
    if not (folder / "run.json").is_file():
        raise ConfigError(f"runs: {folder.name!r} is no finished run in {str(folder.parent)!r}")
    pictures: Tensor = load_file(folder / SAMPLES)["pictures"]
    return pictures, json.loads((folder / "run.json").read_text(encoding="utf-8"))


Columns = dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]]
"""Of a table, by the figure that a row must have: what stands above it, how a row writes it."""


def column(key: str, form: str, heading: str, scale: float = 1.0) -> Columns:
    """A column of the figure `key`, `scale` times it by the format `form`."""
    return {key: (heading, lambda row: f"{scale * row[key]:{form}}")}


def markdown(rows: Mapping[str, Mapping[str, Any]], columns: Columns) -> str:
    """A table of `rows` by their names; a figure that a row does not have is a dash."""
    lines = [
        f"| | {' | '.join(heading for heading, _ in columns.values())} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name, row in rows.items():
        cells = ["—" if row.get(key) is None else form(row) for key, (_, form) in columns.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def chart(curves: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]]) -> Figure:
    """One panel for each title of `curves`, with its labelled lines (x, y)."""
    figure = Figure(figsize=(4.2 * len(curves), 3), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (title, lines) in zip(panels, curves.items(), strict=True):
        for label, (x, y) in lines.items():
            axes.plot(x, y, label=label, linewidth=1)
        axes.set_title(title, fontsize=10)
        axes.legend(frameon=False, fontsize=8)
        axes.grid(alpha=0.3)
    return figure


def smooth(values: Sequence[float], keep: float = 0.95) -> list[float]:
    """The running mean of a noisy curve, unbiased at its start."""
    mean, smoothed = 0.0, []
    for n, value in enumerate(values, start=1):
        mean = keep * mean + (1 - keep) * value
        smoothed.append(mean / (1 - keep**n))
    return smoothed


def lerp_average(average: nn.Module, module: nn.Module, decay: float, step: int) -> None:
    """EMA of weights: average <- d average + (1 - d) module, d = min(decay, (1 + n) / (10 + n)).

    The ramp of d lets the first steps, which are far from good, be forgotten. Buffers (the batch
    norms' statistics) are averages already and are copied.
    """
    d = min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for kept, new in zip(average.parameters(), module.parameters(), strict=True):
            kept.lerp_(new, 1 - d)
        for buffer, fresh in zip(average.buffers(), module.buffers(), strict=True):
            buffer.copy_(fresh)


def save_film(frames: Sequence[Image.Image], path: Path, milliseconds: int = 120) -> None:
    """An endless WebP (or GIF, by the suffix of `path`) that rests on its last frame."""
    durations = [milliseconds] * (len(frames) - 1) + [10 * milliseconds]
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=80
    )


def run_lab(
    kind: type[T],
    run: Callable[[T, Path], Path],
    module: str,
    description: str | None,
    arguments: Sequence[str] | None = None,
) -> int:
    """The command of a lab: every field of the dataclass `kind` is an option.

    `run` takes the settings and the folder of all labs, and returns the run's folder. Returns 0, 2
    with one line on stderr for what the caller can mend, 128 + the signal where one came.
    """
    if arguments is None:
        keep_memory(module)
    parser = Parser(prog=f"python -m {module}", description=description)
    add_settings(parser, kind)
    given: dict[str, Any] = vars(parser.parse_args(arguments))
    home = Path(os.environ.get("DOGBOOTH_HOME", "artifacts"))
    fields = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values = {k: v for k, v in given.items() if k in fields and v is not None}

    def command() -> None:
        folder = run(build(kind, values), home / "labs")
        print(f"samples, curves and scores in {folder}")

    return exit_code(command)

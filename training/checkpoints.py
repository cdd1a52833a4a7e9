"""Training state on disk, from which a killed run goes on, and whole pipelines."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import torch
from diffusers import StableDiffusionPipeline
from diffusers.training_utils import EMAModel

from models.disk import sync_tree


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` (tensors and plain data) to `path`: beside it first, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_state(path: Path) -> dict[str, Any] | None:
    """What save_state wrote, or None when nothing was; code in the file is never run."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that is `path` once the block ends and all in it is on the disk.

    When the block raises, nothing is left of it.
    """
    staging = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    staging.mkdir(parents=True)
    try:
        yield staging
        sync_tree(staging)
        staging.rename(path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


class Stateful(Protocol):
    """A module, an optimizer, a schedule, an average."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


class Checkpoint:
    """The file that a training loop writes now and then, and goes on from after a kill."""

    def __init__(self, path: Path, generator: torch.Generator, **parts: Any) -> None:
        """`parts` are the Stateful things of the loop, by their names in the file."""
        self._path = path
        self._generator = generator
        self._parts: dict[str, Stateful] = parts

    def resume(self) -> int:
        """Put everything back as it was written; the steps taken so far, 0 without a file."""
        state = load_state(self._path)
        if state is None:
            return 0
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        self._generator.set_state(state["generator"])
        step: int = state["step"]
        return step

    def save(self, step: int) -> None:
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        save_state(self._path, {"step": step, **parts, "generator": self._generator.get_state()})


@contextmanager
def averaged(ema: EMAModel, parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    """Within the block, `parameters` are their averages."""
    ema.store(parameters)
    ema.copy_to(parameters)
    yield
    ema.restore(parameters)


def save_pipeline(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Write a diffusers folder of fp16 safetensors that loads in fp32 where no dtype is asked."""
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
    # transformers loads the dtype of the config, diffusers fp32: together they could not draw.
    path = folder / "text_encoder" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"dtype": "float32"}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

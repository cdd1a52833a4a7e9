"""Training state on disk, from which a killed run goes on, and whole pipelines."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline


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


def save_pipeline(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Write a diffusers folder of fp16 safetensors that loads in fp32 where no dtype is asked."""
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
    # transformers loads the dtype of the config, diffusers fp32: together they could not draw.
    path = folder / "text_encoder" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"dtype": "float32"}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

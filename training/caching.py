"""What a run computes once and keeps on disk: files named after all that they were made of."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.checkpoints import load_state, save_state

KEPT = 8
"""Files of one kind that stay; the least recently used are removed."""


def fingerprint(parts: Any) -> str:
    """A digest of JSON-ready data."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def content_of(*tensors: Tensor) -> str:
    """A digest of the tensors' shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weights_of(*models: nn.Module) -> str:
    """A digest of every weight."""
    return content_of(*(parameter for model in models for parameter in model.parameters()))


def cached(
    folder: Path, kind: str, parts: dict[str, Any], make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """The tensors that `make` gives, from `folder`/`kind` where they were made of the same `parts`.

    `parts` must name everything that the result depends on.
    """
    path = folder / kind / f"{fingerprint(parts)[:32]}.pt"
    if (tensors := load_state(path)) is not None:
        path.touch()
        return tensors
    tensors = make()
    save_state(path, tensors)
    old = sorted(path.parent.glob("*.pt"), key=lambda p: p.stat().st_mtime_ns)[:-KEPT]
    for other in old:
        other.unlink(missing_ok=True)
    return tensors

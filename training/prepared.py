"""Reads the datasets that `python -m data` prepares."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor

from data.breeds import find_breeds, normalize
from training.config import ConfigError
from training.pictures import pixels


def read_prepared(folder: Path) -> tuple[datasets.Dataset, dict[str, Any]]:
    """The rows in `folder` and its report; ConfigError where it holds none."""
    try:
        rows = datasets.load_from_disk(str(folder))
        return rows, json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"dataset: {str(folder)!r} holds no prepared dataset; make one with "
            "`python -m data prepare` or `python -m data photos`"
        ) from None


def names_meant(rows: datasets.Dataset, wanted: Sequence[str]) -> set[str]:
    """The English names that `wanted` means: those of the dataset in either language, or, where it
    is of Stanford Dogs, breeds as `find_breeds` finds them. They need not be in the dataset.

    Raises UnknownBreed.
    """
    own = {normalize(name): name for name in rows["breed"]}
    own |= {normalize(n): name for n, name in zip(rows["breed_es"], rows["breed"], strict=True)}
    found: set[str] = set()
    for name in wanted:
        if normalize(name) in own:
            found.add(own[normalize(name)])
        elif any(rows["synset"]):
            found |= {breed.name for breed in find_breeds([name])}
        else:
            found.add(name)
    return found


def pictures_of(rows: datasets.Dataset) -> Tensor:
    """Bytes `[N, 3, S, S]` of all rows, decoded a few hundred at a time."""
    parts = [pixels(rows[start : start + 256]["image"]) for start in range(0, len(rows), 256)]
    return torch.cat(parts)

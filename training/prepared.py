"""Reads the datasets that `python -m data` prepares."""

import json
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor

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


def pictures_of(rows: datasets.Dataset) -> Tensor:
    """Bytes `[N, 3, S, S]` of all rows, decoded a few hundred at a time."""
    parts = [pixels(rows[start : start + 256]["image"]) for start in range(0, len(rows), 256)]
    return torch.cat(parts)

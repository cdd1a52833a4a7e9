"""The datasets that `python -m data prepare` put under the home folder: which breeds each has."""

import json
import re
from pathlib import Path

from data.breeds import find_breeds
from data.errors import DataError
from models.errors import InvalidRequest

NAME_PATTERN = r"^\w[\w.-]{0,63}$"


def prepared_datasets(home: Path) -> dict[str, dict[str, int]]:
    """By the name of each dataset how many photos it has of each breed."""
    folders = sorted(path for path in (home / "data").glob("*") if path.is_dir())
    found = {path.name: _photos(path) for path in folders if re.match(NAME_PATTERN, path.name)}
    return {name: breeds for name, breeds in found.items() if breeds}


def chosen_breeds(home: Path, dataset: str, asked: list[str]) -> list[str]:
    """English names of the breeds of `dataset` that were asked for. Raises InvalidRequest."""
    try:
        names = [breed.name for breed in find_breeds(asked)]
    except DataError as error:
        raise InvalidRequest(f"breeds: {error}") from error
    there = _photos(home / "data" / dataset)
    if there is None:
        raise InvalidRequest(f"dataset {dataset!r}: none of that name was prepared here")
    if missing := [name for name in names if name not in there]:
        raise InvalidRequest(f"breeds: {dataset} has no {', '.join(missing)}")
    return names


def _photos(folder: Path) -> dict[str, int] | None:
    """How many photos a prepared dataset has of each breed; None where there is no such thing."""
    try:
        groups = json.loads((folder / "report.json").read_bytes())["breeds"]
        return {name: group["kept"] for name, group in groups.items() if group["kept"]}
    except (OSError, ValueError, KeyError):
        return None

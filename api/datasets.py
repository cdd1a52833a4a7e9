"""The datasets that `python -m data` put under the home folder: which breeds each has."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.breeds import find_breeds, normalize
from data.classes import class_in_report
from data.errors import DataError
from models.errors import InvalidRequest

NAME_PATTERN = r"^\w[\w.-]{0,63}$"


@dataclass(frozen=True)
class Kind:
    """What some photos of a dataset show: a breed, of whatever class, or one animal."""

    name: str
    spanish: str
    photos: int


@dataclass(frozen=True)
class PreparedDataset:
    """What a report.json tells of its dataset."""

    name: str
    class_word: str
    kinds: list[Kind]

    def named(self, asked: Sequence[str]) -> list[str]:
        """English names of the kinds that were asked for, each once. Raises InvalidRequest.

        Both names of each are known and, where it shows dogs, all that `find_breeds` finds.
        """
        own = {
            normalize(name): kind.name for kind in self.kinds for name in (kind.spanish, kind.name)
        }
        found: dict[str, None] = {}
        for name in asked:
            if normalize(name) in own:
                found[own[normalize(name)]] = None
            elif self.class_word == "dog":
                found.update(dict.fromkeys(_dog_breeds(name)))
            else:
                found[name] = None
        if missing := found.keys() - own.values():
            there = ", ".join(kind.name for kind in self.kinds)
            lacking = ", ".join(name for name in found if name in missing)
            raise InvalidRequest(f"breeds: {self.name} has no {lacking} (it has {there})")
        return list(found)


def prepared_datasets(home: Path) -> list[PreparedDataset]:
    """Those that have photos, by their names."""
    folders = sorted(path for path in (home / "data").glob("*") if path.is_dir())
    found = [_read(path) for path in folders if re.match(NAME_PATTERN, path.name)]
    return [dataset for dataset in found if dataset is not None]


def prepared_dataset(home: Path, name: str) -> PreparedDataset:
    """That of this name. Raises InvalidRequest where there is none."""
    if (found := _read(home / "data" / name)) is None:
        raise InvalidRequest(f"dataset {name!r}: none of that name was prepared here")
    return found


def _read(folder: Path) -> PreparedDataset | None:
    """What `folder` holds; None where that is no prepared dataset."""
    try:
        report = json.loads((folder / "report.json").read_bytes())
        kinds = [
            Kind(name, group.get("spanish", name), group["kept"])
            for name, group in report["breeds"].items()
            if group["kept"]
        ]
        dataset = PreparedDataset(folder.name, class_in_report(report).word, kinds)
    except (OSError, ValueError, KeyError):
        return None
    return dataset if kinds else None


def _dog_breeds(asked: str) -> list[str]:
    """English names of the breeds of Stanford Dogs that are meant. Raises InvalidRequest."""
    try:
        return [breed.name for breed in find_breeds([asked])]
    except DataError as error:
        raise InvalidRequest(f"breeds: {error}") from error

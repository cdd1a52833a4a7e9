"""Photos of kinds of one class, breeds of cats say, by folders or by names like Bengal_12.jpg."""

import math
import random
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.classes import PhotoClass
from data.prepare import check_output, own_arguments, write_dataset
from data.report import Report
from data.selection import Settings, kind_subject, select
from data.stanford import Entry, SourceError


def prepare_kinds(
    folder: Path,
    output: Path,
    shown: PhotoClass,
    settings: Settings,
    spanish: Mapping[str, str] | None = None,
    held_out: float = 0.2,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Photos of kinds of one class (breeds of cats, say) as a dataset with the same columns.

    Kinds are told by folders or by names (`kinds_in`); photos called as the class itself show no
    kind of it. A share `held_out` of each kind's photos, drawn by the seed, is its test list;
    `spanish` are Spanish names by kind. Returns and raises what `prepare` does, and SourceError
    where all photos are of one kind.
    """
    started = time.monotonic()
    check_output(output, overwrite)
    kinds = kinds_in(folder)
    names = {kind.casefold(): word for kind, word in (spanish or {}).items()}
    there = {kind.casefold() for kind in kinds}
    if unknown := [kind for kind in spanish or {} if kind.casefold() not in there]:
        raise SourceError(f"spanish: no photos of {', '.join(unknown)} in {str(folder)!r}")
    entries = {}
    for kind, photos in kinds.items():
        is_class = kind.casefold() == shown.word.casefold()
        name, usual = (shown.word, shown.spanish) if is_class else (kind, kind)
        subject = kind_subject(name, names.get(kind.casefold(), usual), shown)
        entries[subject] = part_photos(folder, photos, held_out, f"{settings.seed}/{name}")
    report = Report()
    candidates = select(entries, settings, report)
    if len(kept := {candidate.subject.name for candidate in candidates}) == 1:
        raise SourceError(
            f"all photos in {str(folder)!r} show one kind, {kept.pop()!r}: kinds are told by "
            "folders, or by what stands before the number in a file's name"
        )
    arguments = own_arguments(settings) | {"source": folder.resolve().name, "held_out": held_out}
    arguments |= {"class": shown.word, "class_es": shown.spanish, "imagenet": shown.imagenet}
    return write_dataset(candidates, shown.imagenet, output, settings, report, arguments, started)


def kinds_in(folder: Path) -> dict[str, list[Path]]:
    """The files of each kind in `folder`, by the names of both.

    A kind is a folder in it or, where there is none, what stands before the number in the names of
    files. Hidden files are left out. Raises SourceError where there is no folder or nothing in it,
    or a file that names no kind.
    """
    if not folder.is_dir():
        raise SourceError(f"{str(folder)!r} is no folder")
    inside = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    folders = [path for path in inside if path.is_dir()]
    kinds: dict[str, list[Path]] = {}
    for path in [file for sub in folders for file in sorted(sub.iterdir())] if folders else inside:
        kind = path.parent.name if folders else re.sub(r"[\W\d_]+$", "", path.stem)
        if not kind:
            raise SourceError(f"{path.name!r} in {str(folder)!r} names no kind before its number")
        kinds.setdefault(kind.replace("_", " "), []).append(path)
    if not kinds:
        raise SourceError(f"no photos in {str(folder)!r}")
    return kinds


def part_photos(folder: Path, photos: Sequence[Path], held_out: float, seed: str) -> list[Entry]:
    """Entries of one kind's photos; a share `held_out` of them, one at least, is its test list.

    They are parted along the order in which `select` takes photos: whatever number of them it
    takes, the share is the same.
    """
    order = list(photos)
    random.Random(seed).shuffle(order)
    test = {
        photo
        for number, photo in enumerate(order)
        if math.ceil((number + 1) * held_out) > math.ceil(number * held_out)
    }
    return [
        Entry(path, path.relative_to(folder).as_posix(), "test" if path in test else "train", None)
        for path in photos
    ]

"""Reads a Stanford Dogs folder: photos, official lists and the boxes of the annotations."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from data.breeds import BREEDS, Breed
from data.crops import Box
from data.errors import DataError

SPLITS = ("train", "test")


class SourceError(DataError):
    """A source folder that cannot be used."""


class BadAnnotation(ValueError):
    """An annotation that cannot be read."""


@dataclass(frozen=True)
class Entry:
    """One file in a folder of photos."""

    path: Path
    source: str
    """Path inside the source folder, with "/"."""
    split: str
    """"train" or "test"; "" when neither official list names it."""
    annotation: Path | None


@dataclass
class Index:
    """What a source folder holds of the breeds asked for."""

    entries: dict[Breed, list[Entry]] = field(default_factory=dict)
    """Files in each breed's folder, sorted by name."""
    missing: dict[Breed, list[str]] = field(default_factory=dict)
    """Photos that an official list names and that are not there."""
    ignored: list[str] = field(default_factory=list)
    """Things in `Images` that are no breed's folder."""


def _read_list(path: Path) -> list[str]:
    if path.suffix == ".txt":
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip()]
    from scipy.io import loadmat

    return [str(cell[0][0]) for cell in loadmat(path)["file_list"]]


def read_splits(source: Path) -> dict[str, str]:
    """Split of each listed photo, keyed by `folder/name.jpg`.

    Reads `{train,test}_list.txt`, or the `.mat` files of the official archive, in `lists/` or
    beside `Images`; a list that is absent names nothing.

    Raises:
        SourceError: a list that cannot be read.
    """
    splits: dict[str, str] = {}
    for split in SPLITS:
        names = (
            f"{folder}{split}_list{end}" for end in (".txt", ".mat") for folder in ("lists/", "")
        )
        path = next((source / name for name in names if (source / name).is_file()), None)
        if path is None:
            continue
        try:
            splits.update(dict.fromkeys(_read_list(path), split))
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise SourceError(f"cannot read the list {path.name}: {error}") from error
    return splits


def _annotation(source: Path, breed: Breed, stem: str) -> Path | None:
    folder = source / "Annotation" / breed.folder
    return next((p for p in (folder / stem, folder / f"{stem}.xml") if p.is_file()), None)


def read_index(source: Path, breeds: Iterable[Breed]) -> Index:
    """Everything in the folders of `breeds`, junk included.

    Raises:
        SourceError: `source` has no `Images` folder, or a list that cannot be read.
    """
    images = source / "Images"
    if not images.is_dir():
        raise SourceError(f"{str(source)!r} has no folder 'Images'")
    splits = read_splits(source)
    known = {breed.folder for breed in BREEDS}
    index = Index(ignored=sorted(p.name for p in images.iterdir() if p.name not in known))
    for breed in breeds:
        folder = images / breed.folder
        here = sorted(folder.iterdir()) if folder.is_dir() else []
        index.entries[breed] = [
            Entry(
                path,
                f"Images/{breed.folder}/{path.name}",
                splits.get(f"{breed.folder}/{path.name}", ""),
                _annotation(source, breed, path.stem),
            )
            for path in here
        ]
        present = {f"{breed.folder}/{path.name}" for path in here}
        listed = (name for name in splits if name.startswith(f"{breed.folder}/"))
        index.missing[breed] = [name for name in listed if name not in present]
    return index


def read_boxes(annotation: Path, size: tuple[int, int]) -> list[Box]:
    """Boxes of an annotation, in the pixels of a stored picture of `size` (before EXIF rotation).

    Boxes of a picture that was resized since it was annotated are scaled with it. Boxes may lie
    outside the picture.

    Raises:
        BadAnnotation: not XML of this kind.
    """
    try:
        root = ElementTree.parse(annotation).getroot()
        width, height = (float(root.findtext(f"size/{side}", "0")) for side in ("width", "height"))
        scale = (size[0] / width if width > 0 else 1.0, size[1] / height if height > 0 else 1.0)
        corners = [
            [float(node.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax")]
            for node in root.iter("object")
        ]
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise BadAnnotation(str(error)) from error
    return [
        Box(left * scale[0], top * scale[1], right * scale[0], bottom * scale[1])
        for left, top, right, bottom in corners
    ]

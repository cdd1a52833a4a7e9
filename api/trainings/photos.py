"""Checks the photos that a training is to learn from, and keeps them in its folder."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO

from PIL import Image

from data.duplicates import Duplicates
from data.photos import UnusablePhoto, open_photo
from models.errors import ModelsError

MIN_PHOTOS, MAX_PHOTOS = 3, 50
MIN_SIDE = 64
"""Pixels; the trainer shrinks what is larger than its base."""
MAX_ASPECT = 3.0
"""Longer side over shorter side: the trainer drops what is longer still."""
MAX_PIXELS = 60_000_000
"""A photo in memory takes three bytes a pixel, and twice that while it is turned upright."""
NEAR = 3
"""Perceptual hashes of 64 bits that differ in at most this many are of one photo, as for
`python -m data`."""
KINDS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "GIF")


@dataclass(frozen=True)
class SentPhoto:
    """A file of the form, as its client named it."""

    name: str
    file: IO[bytes]


@dataclass(frozen=True)
class PhotoFault:
    """Why a photo cannot be used."""

    photo: str
    """Its name, as it was sent."""
    index: int
    """Which of the photos, from 0."""
    message: str


class PhotosRefused(ModelsError):
    """Photos that cannot be trained on; `faults` says why, for each of them."""

    code = "photos_refused"

    def __init__(self, count: int, faults: Sequence[PhotoFault]) -> None:
        said = "; ".join(f"{fault.photo}: {fault.message}" for fault in faults)
        super().__init__(f"photos: {len(faults)} of {count} cannot be used: {said}")
        self.faults = tuple(faults)


def store_photos(photos: Sequence[SentPhoto], folder: Path) -> None:
    """Write `photos` into `folder`, which is made; for a thread, and not for many at once.

    Raises PhotosRefused with one message for each photo that is no picture, too small, too long,
    too large, or the same as an earlier one, in its bytes or in its looks.
    """
    folder.mkdir(parents=True)
    duplicates, faults = Duplicates(NEAR), []
    for index, photo in enumerate(photos):
        name = label(photo.name) or f"photo {index + 1}"
        path = folder / f"photo-{index:02d}"
        with path.open("wb") as written:
            shutil.copyfileobj(photo.file, written)
        try:
            _check(path, name, duplicates)
        except UnusablePhoto as error:
            faults.append(PhotoFault(name, index, str(error)))
    if faults:
        raise PhotosRefused(len(photos), faults)


def _check(path: Path, name: str, duplicates: Duplicates) -> None:
    try:
        with Image.open(path, formats=KINDS) as header:  # before its pixels are unpacked
            width, height = header.size
    except Exception as error:  # what broken bytes make Pillow raise is no closed set
        raise UnusablePhoto("not a picture") from error
    size = f"{width}x{height}"
    if width * height > MAX_PIXELS:
        raise UnusablePhoto("too many pixels", f"{size}, at most {MAX_PIXELS:,}")
    if min(width, height) < MIN_SIDE:
        raise UnusablePhoto("too small", f"{size}, at least {MIN_SIDE} pixels a side")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UnusablePhoto("too long", f"{size}, at most {MAX_ASPECT:g} times its other side")
    try:
        image = open_photo(path).image
    except UnusablePhoto as error:  # Pillow's own words may name our folder
        raise UnusablePhoto(error.reason) from error
    if twin := duplicates.find(name, "", path, image):
        raise UnusablePhoto(*twin)


def label(filename: str) -> str:
    """What messages call an uploaded file."""
    return re.sub(r"[^\w.+ -]", "_", PurePath(filename.replace("\\", "/")).name)[:80]

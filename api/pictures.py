"""Files of the pictures that were made, each under the hash of its bytes."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import get_args

from models.picture import PictureFormat

ID_PATTERN = r"^[0-9a-f]{32}$"
STALE = 3600.0
"""Seconds after which a half-written file is nobody's any more."""


@dataclass(frozen=True)
class PictureFile:
    """An encoded picture."""

    format: PictureFormat
    data: bytes = field(repr=False)

    @property
    def id(self) -> str:
        return sha256(self.data).hexdigest()[:32]


@dataclass(frozen=True)
class StoredPicture:
    """A file of the store."""

    id: str
    format: PictureFormat
    bytes: int
    created: datetime


class PictureStore:
    """Files `<id>.<format>` in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, picture: PictureFile) -> None:
        """Store it, on the disk when this returns; a reader never sees half a file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=self._folder, prefix=".", delete=False) as file:
            file.write(picture.data)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(self._folder / f"{picture.id}.{picture.format}")

    def find(self, picture_id: str) -> tuple[Path, PictureFormat] | None:
        """The file and the format of `picture_id`; None when there is no such picture."""
        if re.fullmatch(ID_PATTERN, picture_id) is None:
            return None
        for picture_format in get_args(PictureFormat):
            path = self._folder / f"{picture_id}.{picture_format}"
            if path.is_file():
                return path, picture_format
        return None

    def read(self, picture_id: str) -> bytes:
        """The bytes of a picture that was stored."""
        found = self.find(picture_id)
        assert found is not None, picture_id
        return found[0].read_bytes()

    def delete(self, picture_id: str) -> None:
        """No effect where there is no such picture."""
        found = self.find(picture_id)
        if found is not None:
            found[0].unlink(missing_ok=True)

    def files(self) -> Iterator[StoredPicture]:
        """Every picture of the folder, in no order."""
        for path in self._folder.glob("*.*"):
            if re.fullmatch(ID_PATTERN, path.stem) and path.suffix[1:] in get_args(PictureFormat):
                stat = path.stat()
                created = datetime.fromtimestamp(stat.st_mtime, UTC)
                yield StoredPicture(path.stem, path.suffix[1:], stat.st_size, created)  # type: ignore[arg-type]

    def clear_half_written(self, now: float) -> None:
        """Remove what a process that was killed left; `now` in seconds since the epoch."""
        for path in self._folder.glob(".*"):
            if now - path.stat().st_mtime > STALE:
                path.unlink(missing_ok=True)

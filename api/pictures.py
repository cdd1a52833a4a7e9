"""Keeps the pictures that were made, each under the hash of its bytes."""

import re
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile

from models.picture import MEDIA_TYPES, PictureFormat

ID_PATTERN = r"^[0-9a-f]{32}$"


class PictureStore:
    """Files `<id>.<format>` in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, data: bytes, picture_format: PictureFormat) -> str:
        """Store `data` and give its id; a reader never sees half a file."""
        picture_id = sha256(data).hexdigest()[:32]
        self._folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=self._folder, prefix=".", delete=False) as file:
            file.write(data)
        Path(file.name).replace(self._folder / f"{picture_id}.{picture_format}")
        return picture_id

    def find(self, picture_id: str) -> tuple[Path, PictureFormat] | None:
        """The file and the format of `picture_id`; None when there is no such picture."""
        if re.fullmatch(ID_PATTERN, picture_id) is None:
            return None
        for picture_format in MEDIA_TYPES:
            path = self._folder / f"{picture_id}.{picture_format}"
            if path.is_file():
                return path, picture_format
        return None

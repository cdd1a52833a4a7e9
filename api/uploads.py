"""Models as files of clients: taken in from an upload, packed for a download."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from tempfile import TemporaryFile
from typing import IO, Any
from uuid import uuid4
from zipfile import ZIP_STORED, ZipFile

from models.catalog import Catalog, CatalogEntry
from models.formats import Format

CHUNK = 2**20


def clear_uploads(home: Path) -> None:
    """Remove what a killed service left of unfinished uploads."""
    shutil.rmtree(home / "uploads", ignore_errors=True)


def take_upload(
    file: IO[bytes],
    filename: str,
    name: str,
    catalog: Catalog,
    home: Path,
    max_bytes: int,
    base: str | None,
    fields: dict[str, Any],
) -> CatalogEntry:
    """Publish the uploaded `file` as `name`: a zip of a diffusers folder, a checkpoint or a LoRA.

    Raises ModelRefused or ModelExists; then nothing of the file stays on the disk.
    """
    from models.formats.archive import is_zip, unpack  # torch: seconds to import
    from models.formats.importing import import_model

    with scratch_folder(home) as scratch:
        if is_zip(file):
            folder = scratch / "pipeline"
            folder.mkdir()
            unpack(file, folder, max_bytes)
            return import_model(folder, name, catalog, base, fields)
        path = scratch / "upload"
        with path.open("wb") as written:
            shutil.copyfileobj(file, written, CHUNK)
        return import_model(path, name, catalog, base, fields, label=_label(filename))


def pack(
    name: str, form: Format | None, catalog: Catalog, home: Path
) -> tuple[IO[bytes], str, int]:
    """An open file with the model, the name to give it, and its length in bytes.

    None gives adapters as `lora` and whole models as `diffusers`, which comes as a zip. The file
    has no name on the disk: it is gone when it is closed. Raises ModelNotFound or ModelRefused.
    """
    from models.formats.exporting import export_model  # torch: seconds to import

    if form is None:
        form = "lora" if catalog.get(name).manifest.kind == "adapter" else "diffusers"
    with scratch_folder(home) as scratch:
        made = scratch / name
        export_model(name, form, made, catalog)
        if form != "diffusers":
            return made.open("rb"), f"{name}.safetensors", made.stat().st_size
        file = TemporaryFile(dir=scratch.parent)  # noqa: SIM115 handed on open
        with ZipFile(file, "w", ZIP_STORED) as archive:
            for path in sorted(made.rglob("*")):
                archive.write(path, f"{name}/{path.relative_to(made).as_posix()}")
        length = file.tell()
        file.seek(0)
        return file, f"{name}.zip", length


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    """The rest of `file`, which is closed behind it."""
    with file:
        while part := file.read(CHUNK):
            yield part


@contextmanager
def scratch_folder(home: Path) -> Iterator[Path]:
    """A folder on the disk of the models that is gone after the block, or at the next start."""
    folder = home / "uploads" / uuid4().hex
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _label(filename: str) -> str:
    """What messages call an uploaded file."""
    return re.sub(r"[^\w.+ -]", "_", PurePath(filename.replace("\\", "/")).name)[:80] or "file"

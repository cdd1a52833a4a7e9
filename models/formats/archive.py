"""Zips of diffusers folders: what is in them is known before a byte of it is written."""

import shutil
import stat
import struct
import zlib
from collections.abc import Iterator
from errno import EINVAL
from pathlib import Path, PurePosixPath
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from models.errors import ModelRefused
from models.formats.components import MAX_JSON, PARTS, WEIGHTS
from models.formats.folder import SCHEDULER_FILE, TOKENIZER_CONFIG, TOKENIZER_FILES
from models.manifest import MANIFEST_FILE, PIPELINE_FILE

MAX_FILES = 100
MAX_DIRECTORY = 2**20
END_BYTES = 65_536 + 98
"""What a zip's end takes at most: its comment, and its records, ZIP64's too."""
CHUNK = 2**20
READ = {
    PIPELINE_FILE,
    MANIFEST_FILE,
    f"scheduler/{SCHEDULER_FILE}",
    *(f"tokenizer/{name}" for name in (*TOKENIZER_FILES, TOKENIZER_CONFIG)),
    *(f"{part}/config.json" for part in PARTS),
    *(f"{part}/{WEIGHTS[part]}" for part in PARTS),
    *(f"{part}/{WEIGHTS[part].replace('.safetensors', '.fp16.safetensors')}" for part in PARTS),
}
"""The files of a pipeline that are taken."""
SKIPPED = {
    ".gitattributes",
    "LICENSE",
    "LICENSE.md",
    "README.md",
    "evaluation.json",
    "feature_extractor/preprocessor_config.json",
    "preview.png",
    "preview_before.png",
    "safety_checker/config.json",
    "safety_checker/model.fp16.safetensors",
    "safety_checker/model.safetensors",
}
"""Files that a pipeline's folder may hold too, which are not taken; all others are refused."""

DAMAGE = (BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError)
"""What zipfile raises over bytes that are no good zip."""


def is_zip(file: IO[bytes]) -> bool:
    """Whether the file starts as a zip archive with something in it."""
    start = file.read(4)
    file.seek(0)
    return start == b"PK\x03\x04"


def unpack(file: IO[bytes], folder: Path, max_bytes: int) -> None:
    """Write the pipeline's files in the zip `file` into `folder`, `max_bytes` of them at most.

    Refuses paths that leave the folder, links, encrypted files, names that no pipeline has, more
    than `MAX_FILES` files, and what unpacks to more than it says. Raises ModelRefused, which names
    the file and why; `folder` is then to be thrown away.
    """
    _check_directory(file)
    try:
        with ZipFile(file) as archive:
            for info, name in _checked(archive, max_bytes):
                target = folder / name
                target.parent.mkdir(exist_ok=True)
                with archive.open(info) as source, target.open("xb") as written:
                    shutil.copyfileobj(source, written, CHUNK)
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno != EINVAL:  # of the disk, not of the zip
            raise
        raise ModelRefused(f"the zip archive is damaged: {error!s:.200}") from error


def _check_directory(file: IO[bytes]) -> None:
    """Refuse a directory of entries that is large: zipfile reads all of it into memory."""
    length = file.seek(0, 2)
    file.seek(max(0, length - END_BYTES))
    end = file.read()
    file.seek(0)
    at = end.rfind(b"PK\x05\x06")
    if at < 0 or len(end) < at + 22:
        raise ModelRefused("the zip archive is damaged: its end is missing")
    size = int.from_bytes(end[at + 12 : at + 16], "little")
    if end[max(0, at - 20) : at - 16] == b"PK\x06\x07":  # the larger fields of ZIP64
        size = int.from_bytes(end[max(0, at - 36) : max(0, at - 28)], "little")
    if size > MAX_DIRECTORY:
        raise ModelRefused(f"the zip archive lists {size} bytes of names: at most {MAX_DIRECTORY}")


def _checked(archive: ZipFile, max_bytes: int) -> Iterator[tuple[ZipInfo, str]]:
    """The files to unpack and their names below the folder that holds `model_index.json`."""
    infos = archive.infolist()
    if len(infos) > MAX_FILES:
        raise ModelRefused(f"the zip archive holds {len(infos)} files: at most {MAX_FILES}")
    files = [info for info in infos if not info.is_dir()]
    for info in infos:
        _check_entry(info)
    top = _top(files)
    total, seen = 0, set()
    chosen = []
    for info in files:
        name = info.filename.removeprefix(top)
        if name in seen:
            raise ModelRefused(f"{name!r}: stands in the archive twice")
        seen.add(name)
        if name in SKIPPED:
            continue
        if name not in READ:
            raise ModelRefused(f"{name[:200]!r}: no file of a Stable Diffusion pipeline")
        if name.endswith((".json", ".txt")) and info.file_size > MAX_JSON:
            raise ModelRefused(f"{name}: has more than {MAX_JSON // 2**20} MiB")
        total += info.file_size
        chosen.append((info, name))
    if total > max_bytes:
        raise ModelRefused(f"the zip archive unpacks to {total} bytes: at most {max_bytes}")
    yield from chosen


def _check_entry(info: ZipInfo) -> None:
    label = f"{info.filename[:200]!r}"
    path = PurePosixPath(info.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in info.orig_filename or ":" in str(path):
        raise ModelRefused(f"{label}: its path leaves the folder")
    mode = stat.S_IFMT(info.external_attr >> 16)
    if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ModelRefused(f"{label}: a link or a device")
    if info.flag_bits & 1:
        raise ModelRefused(f"{label}: is encrypted")
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ModelRefused(f"{label}: compression {info.compress_type}: only stored or deflated")


def _top(files: list[ZipInfo]) -> str:
    """The path before the archive's one `model_index.json`."""
    pickles = [info.filename for info in files if info.filename.endswith("data.pkl")]
    if pickles:
        raise ModelRefused(f"{pickles[0][:200]!r}: a PyTorch pickle; only safetensors are read")
    found = [info.filename for info in files if PurePosixPath(info.filename).name == PIPELINE_FILE]
    if len(found) != 1:
        raise ModelRefused(f"{PIPELINE_FILE}: the archive has {len(found)} of it, not one")
    top = found[0].removesuffix(PIPELINE_FILE)
    for info in files:
        if not info.filename.startswith(top):
            raise ModelRefused(f"{info.filename[:200]!r}: lies outside {top[:200]!r}")
    return top

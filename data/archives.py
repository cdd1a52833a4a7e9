"""Fetches the official archives of Stanford Dogs and unpacks them safely."""

import hashlib
import shutil
import tarfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import requests
from tqdm import tqdm

from data.errors import DataError

OFFICIAL = "http://vision.stanford.edu/aditya86/ImageNetDogs"
REQUIRED = ("images.tar", "annotation.tar")
LISTS = "lists.tar"
CHUNK = 1 << 16
TIMEOUT = (10, 60)


class DownloadError(DataError):
    """A download that failed for good; what came so far stays for the next try."""


class ArchiveError(DataError):
    """An archive that is damaged, or that holds what it must not."""


def download(
    url: str, path: Path, attempts: int = 5, sleep: Callable[[float], None] = time.sleep
) -> Path:
    """Fetches `url` to `path`, going on where an earlier try stopped (`path` + ".part").

    The size must be what the server announced; a file already at `path` is taken as it is.

    Raises:
        DownloadError: all attempts failed.
    """
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    problem = ""
    for attempt in range(attempts):
        if attempt:
            sleep(2.0**attempt)
        try:
            total = _fetch(url, part)
        except (requests.RequestException, DownloadError) as error:
            problem = str(error)
            continue
        if part.stat().st_size == total:
            return part.rename(path)
        problem = f"{part.stat().st_size} bytes came, {total} were announced"
        if part.stat().st_size > total:
            part.unlink()
    raise DownloadError(f"cannot download {url}: {problem}")


def _fetch(url: str, part: Path) -> int:
    """Appends to `part` what is missing of `url`; returns the whole size as announced."""
    have = part.stat().st_size if part.exists() else 0
    # Compressed on the way, the length would not be the file's.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:  # nothing after `have`: complete, or another file
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if total != str(have):
                part.unlink()
                raise DownloadError("the server's file is shorter than what is here")
            return have
        response.raise_for_status()
        resumed = response.status_code == 206
        length = response.headers.get("Content-Length")
        if length is None:
            raise DownloadError("the server announces no size")
        total_size = int(length) + (have if resumed else 0)
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(
                desc=part.stem, total=total_size, initial=have if resumed else 0, unit="B",
                unit_scale=True,
            ) as progress,
        ):  # fmt: skip
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
    return total_size


def download_official(folder: Path, base_url: str = OFFICIAL) -> Path:
    """The three official archives (about 800 MB) in `folder`."""
    for name in (*REQUIRED, LISTS):
        download(f"{base_url}/{name}", folder / name)
    return folder


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks an uncompressed tar of plain files and folders.

    Raises:
        ArchiveError: damaged, or a member is a link, a device or outside `folder`.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tqdm(tar, desc=f"unpacking {archive.name}", unit="file"):
                if not (member.isreg() or member.isdir()):
                    raise ArchiveError(f"{archive.name}: {member.name!r} is no plain file")
                tar.extract(member, folder, filter="data")
    except (tarfile.TarError, OSError) as error:
        raise ArchiveError(f"{archive.name}: {error}") from error


def unpack_stanford(folder: Path, cache: Path) -> Path:
    """The dataset's layout from the archives in `folder`, unpacked once under `cache`.

    Raises:
        ArchiveError: an archive is not there, or cannot be unpacked.
    """
    archives = [folder / name for name in (*REQUIRED, LISTS) if (folder / name).is_file()]
    absent = [name for name in REQUIRED if folder / name not in archives]
    if absent:
        raise ArchiveError(f"{str(folder)!r} has no {' and no '.join(absent)}")
    stats = [(path.resolve(), path.stat().st_size, path.stat().st_mtime_ns) for path in archives]
    unpacked = cache / hashlib.sha256(repr(stats).encode()).hexdigest()[:16]
    if unpacked.is_dir():
        return unpacked
    building = cache / f".{unpacked.name}.{uuid.uuid4().hex[:8]}"
    building.mkdir(parents=True)
    try:
        for archive in archives:
            # The lists lie at the top of their archive, the photos and boxes in a folder.
            unpack(archive, building / "lists" if archive.name == LISTS else building)
        building.rename(unpacked)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return unpacked

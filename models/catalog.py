"""Where models live: folders with a manifest under a few roots, each published in one rename."""

import ctypes
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from models.errors import InvalidModel, ModelExists, ModelNotFound
from models.manifest import MANIFEST_FILE, NAME_PATTERN, Manifest, read_manifest, write_manifest

PREFERRED = ("dogbooth-breeds", "dogbooth-base")


def embedded_folder() -> Path:
    """The folder of the models that ship with this package."""
    return Path(__file__).parent / "embedded"


@dataclass(frozen=True)
class CatalogEntry:
    """One whole model: its manifest and the folder that holds its weights."""

    manifest: Manifest
    folder: Path
    revision: str
    """Changes whenever a model is published again under this name."""


class Catalog:
    """The models under `roots`; the first root takes what is published, earlier roots win."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)

    def entries(self) -> list[CatalogEntry]:
        """Every whole model, by name; what cannot be read as a model is left out."""
        names = {child.name for root in self._roots if root.is_dir() for child in root.iterdir()}
        found = []
        for name in sorted(filter(_is_name, names)):
            try:
                found.append(self._find(name))
            except (InvalidModel, FileNotFoundError):
                continue
        return found

    def get(self, name: str) -> CatalogEntry:
        """The model called `name`.

        Raises ModelNotFound, which lists the names that exist, or InvalidModel where a folder of
        that name is there but is not a model.
        """
        if _is_name(name):
            try:
                return self._find(name)
            except FileNotFoundError:
                pass
        raise ModelNotFound(f"no model is called {name[:80]!r}; {self._what_exists()}")

    def default_model(self, preferred: str | None = None) -> str:
        """The name to use when none is given; raises ModelNotFound when there is no model."""
        if preferred is not None:
            return preferred
        names = [entry.manifest.name for entry in self.entries()]
        if not names:
            raise ModelNotFound("there is no model yet; publish one with `python -m training`")
        return next((name for name in PREFERRED if name in names), names[0])

    @contextmanager
    def publish(self, manifest: Manifest, replace: bool = False) -> Iterator[Path]:
        """Yield an empty folder for the weights; list it as `manifest.name` when the block ends.

        The folder gets its manifest and reaches the disk before one rename makes it visible. When
        the block raises, the folder is removed and nothing is listed. Raises ModelExists unless
        `replace`, and InvalidModel when the block leaves no weights.
        """
        target = self._roots[0] / manifest.name
        if not replace and any((root / manifest.name).exists() for root in self._roots):
            raise ModelExists(f"a model is called {manifest.name!r} already")
        staging = target.with_name(f".{manifest.name}.{uuid4().hex}")
        staging.mkdir(parents=True)
        try:
            yield staging
            write_manifest(staging, manifest)
            if not (staging / manifest.weights_file).is_file():
                raise InvalidModel(f"{manifest.name}: {manifest.weights_file} is missing")
            _sync_tree(staging)
            _make_visible(staging, target, replace)
            _sync(target.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _find(self, name: str) -> CatalogEntry:
        for root in self._roots:
            folder = root / name
            if folder.is_dir():
                status = folder.stat()  # before reading: a swap in between then only costs a reload
                manifest = read_manifest(folder)
                if manifest.name != name:
                    raise InvalidModel(f"{name}/{MANIFEST_FILE}: name: is {manifest.name!r}")
                if not (folder / manifest.weights_file).is_file():
                    raise InvalidModel(f"{name}: {manifest.weights_file} is missing")
                return CatalogEntry(manifest, folder, f"{status.st_ino}-{status.st_mtime_ns}")
        raise FileNotFoundError(name)

    def _what_exists(self) -> str:
        names = [entry.manifest.name for entry in self.entries()]
        return "there are " + ", ".join(names) if names else "there is no model yet"


def _is_name(name: str) -> bool:
    return re.fullmatch(NAME_PATTERN.strip("^$"), name) is not None


def _make_visible(staging: Path, target: Path, replace: bool) -> None:
    """Rename `staging` to `target`; what stood there before is left in `staging`'s place."""
    if replace and target.exists():
        _exchange(staging, target)
        return
    try:
        staging.rename(target)
    except OSError as error:
        if target.exists():
            raise ModelExists(f"a model is called {target.name!r} already") from error
        raise


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders: in one step where the system can, else in three renames."""
    if sys.platform == "linux":
        at_cwd, rename_exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)
        libc = ctypes.CDLL(None, use_errno=True)
        paths = os.fsencode(one), os.fsencode(other)
        if libc.renameat2(at_cwd, paths[0], at_cwd, paths[1], rename_exchange) == 0:
            return
    parked = one.with_name(one.name + ".old")
    other.rename(parked)
    one.rename(other)
    parked.rename(one)


def _sync_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Where models live: folders with a manifest under a few roots, each published in one rename."""

import ctypes
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from models.disk import sync, sync_tree
from models.errors import InvalidModel, ModelExists, ModelInUse, ModelNotFound, ModelReadOnly
from models.manifest import MANIFEST_FILE, NAME_PATTERN, Manifest, read_manifest, write_manifest

DEFAULT_FILE = ".default"
"""In the first root: the name of the model that was chosen as the default."""
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
        self._read: dict[Path, tuple[tuple[int, ...], CatalogEntry]] = {}
        """What was read of a folder, and how folder and manifest looked then."""

    def entries(self) -> list[CatalogEntry]:
        """Every whole model, by name; what cannot be read as a model is left out."""
        names: set[str] = set()
        for root in self._roots:
            with suppress(FileNotFoundError, NotADirectoryError):
                names.update(child.name for child in root.iterdir())
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

    def default_model(
        self, preferred: str | None = None, entries: Sequence[CatalogEntry] | None = None
    ) -> str:
        """The name to use when none is given: the chosen one, else `preferred`, else one there is.

        `entries` spares reading them again. Raises ModelNotFound when there is no model.
        """
        chosen = self._chosen_default()
        if chosen is not None:
            return chosen
        if preferred is not None:
            return preferred
        names = [entry.manifest.name for entry in (self.entries() if entries is None else entries)]
        if not names:
            raise ModelNotFound("there is no model yet; publish one with `python -m training`")
        return next((name for name in PREFERRED if name in names), names[0])

    def choose_default(self, name: str | None) -> None:
        """Use `name` from now on when no model is given; None leaves the choice open again."""
        path = self._roots[0] / DEFAULT_FILE
        if name is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{DEFAULT_FILE}.{uuid4().hex}")
        partial.write_text(self.get(name).manifest.name, encoding="utf-8")
        partial.replace(path)

    def is_read_only(self, entry: CatalogEntry) -> bool:
        """Whether the model is not under the root that takes what is published."""
        return entry.folder.parent != self._roots[0]

    def amend(self, name: str, **fields: object) -> None:
        """Change `fields` of the model's manifest that say nothing of its weights.

        Raises ModelNotFound or ModelReadOnly.
        """
        entry = self._own(name)
        manifest = entry.manifest.model_copy(update=fields)
        status = entry.folder.stat()
        write_manifest(entry.folder, manifest)
        # The same weights: the folder's time stands for their revision.
        os.utime(entry.folder, ns=(status.st_atime_ns, status.st_mtime_ns))

    def check_removable(self, name: str) -> CatalogEntry:
        """The model `name`; raises ModelNotFound, ModelReadOnly, or ModelInUse for a base."""
        entry = self._own(name)
        others = [other.manifest.name for other in self.entries() if other.manifest.base == name]
        if others:
            raise ModelInUse(f"{name}: is the base of {', '.join(others)}")
        return entry

    def remove(self, name: str) -> None:
        """Remove the model from the catalog, in one rename, and then from the disk.

        Raises ModelNotFound, ModelReadOnly, or ModelInUse where other models name it as their base.
        """
        entry = self.check_removable(name)
        doomed = entry.folder.with_name(f".{name}.{uuid4().hex}")
        entry.folder.rename(doomed)
        shutil.rmtree(doomed)

    def _own(self, name: str) -> CatalogEntry:
        entry = self.get(name)
        if self.is_read_only(entry):
            raise ModelReadOnly(f"{name}: ships with dogbooth and stays as it is")
        return entry

    def _chosen_default(self) -> str | None:
        """The model that was chosen, unless it has been removed since."""
        try:
            name = (self._roots[0] / DEFAULT_FILE).read_text(encoding="utf-8").strip()
            return self.get(name).manifest.name
        except (FileNotFoundError, ModelNotFound, InvalidModel):
            return None

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
            sync_tree(staging)
            _make_visible(staging, target, replace)
            sync(target.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _find(self, name: str) -> CatalogEntry:
        """The model's entry, read anew only where its folder or its manifest has changed.

        Every question asks for it, and a thread that waits for the disk waits for its turn to run
        Python, too: so two looks at the disk have to do.
        """
        for root in self._roots:
            folder = root / name
            try:
                status = folder.stat()  # before reading: a swap in between then only costs a reload
                if not stat.S_ISDIR(status.st_mode):
                    continue
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                seen = (*_identity(status), *_identity((folder / MANIFEST_FILE).stat()))
            except OSError:
                seen = ()  # reading it says what is wrong
            known = self._read.get(folder)
            if known is None or known[0] != seen:
                revision = f"{status.st_ino}-{status.st_mtime_ns}"
                known = self._read[folder] = seen, _read_entry(folder, revision)
            return known[1]
        raise FileNotFoundError(name)

    def _what_exists(self) -> str:
        names = [entry.manifest.name for entry in self.entries()]
        return "there are " + ", ".join(names) if names else "there is no model yet"


def _read_entry(folder: Path, revision: str) -> CatalogEntry:
    manifest = read_manifest(folder)
    if manifest.name != folder.name:
        raise InvalidModel(f"{folder.name}/{MANIFEST_FILE}: name: is {manifest.name!r}")
    if not (folder / manifest.weights_file).is_file():
        raise InvalidModel(f"{folder.name}: {manifest.weights_file} is missing")
    return CatalogEntry(manifest, folder, revision)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """What changes when a file is replaced or written, or a folder gets or loses a file."""
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


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

"""Safetensors files, read by their header first: what is in them is known before it is loaded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.errors import ModelRefused

FLOATS = ("F16", "BF16", "F32", "F64")
FOREIGN_STARTS = {
    b"PK\x03\x04": "a zip archive, as PyTorch's pickles are",
    b"\x80": "a pickle",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TensorFile:
    """The header of one safetensors file: shapes by tensor name, and its own metadata."""

    path: Path
    label: str
    """What messages call the file; no absolute path."""
    shapes: Mapping[str, Shape]
    metadata: Mapping[str, str]

    def load(self, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """The tensors called `names` (None: all), on the CPU, in the file's own dtypes."""
        with safe_open(self.path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in (names or self.shapes)}

    def placeholders(self) -> dict[str, Tensor]:
        """Tensors of the same names and shapes that hold no memory."""
        return {name: torch.empty(shape, device="meta") for name, shape in self.shapes.items()}


def open_tensors(path: Path, label: str | None = None) -> TensorFile:
    """The header of `path`, whatever its name ends in; nothing of it is ever unpickled.

    Raises ModelRefused where the file is no safetensors, is cut off, claims shapes that its bytes
    do not hold, or holds numbers that are not floating point.
    """
    label = label or path.name
    with path.open("rb") as file:
        start = file.read(8)
    for foreign, meaning in FOREIGN_STARTS.items():
        if start.startswith(foreign) and not _has_header(path, start):
            raise ModelRefused(f"{label}: is {meaning}; only safetensors are read")
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            dtypes = {name: part.get_dtype() for name, part in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).removeprefix("Error while deserializing header: ").splitlines()[0]
        raise ModelRefused(f"{label}: is no whole safetensors file: {reason}") from error
    if not shapes:
        raise ModelRefused(f"{label}: holds no tensors")
    for name, dtype in dtypes.items():
        if dtype not in FLOATS and len(shapes[name]) > 1 and not name.endswith("position_ids"):
            wanted = ", ".join(FLOATS)
            raise ModelRefused(f"{label}: {name[:120]!r} is {dtype}, not one of {wanted}")
    return TensorFile(path, label, shapes, metadata)


def _has_header(path: Path, start: bytes) -> bool:
    """Whether the first eight bytes may be the length of a JSON header after all."""
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > path.stat().st_size - 8:
        return False
    with path.open("rb") as file:
        file.seek(8)
        return file.read(1) == b"{"

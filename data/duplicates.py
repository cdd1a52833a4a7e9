"""Finds identical files and photos that look the same."""

import hashlib
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image


class Duplicates:
    """Remembers the photos it has seen."""

    def __init__(self, distance: int) -> None:
        """Starts empty.

        Args:
            distance: perceptual hashes (64 bits) that differ in at most this many bits are
                of one photo.
        """
        self._distance = distance
        self._files: dict[str, str] = {}
        self._hashes: dict[str, np.ndarray] = {}
        self._names: dict[str, list[str]] = {}

    def find(self, name: str, group: str, path: Path, image: Image.Image) -> tuple[str, str] | None:
        """Why a photo is a duplicate, and of which; None for a new one, which it then remembers.

        The same bytes are a duplicate anywhere, the same look only within `group`.
        """
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest in self._files:
            return "identical file", self._files[digest]
        code = np.packbits(imagehash.phash(image).hash).view(np.uint64)
        hashes = self._hashes.get(group, np.empty(0, np.uint64))
        close = np.flatnonzero(np.bitwise_count(hashes ^ code) <= self._distance)
        if len(close):
            return "near-duplicate", self._names[group][close[0]]
        self._files[digest] = name
        self._hashes[group] = np.append(hashes, code)
        self._names.setdefault(group, []).append(name)
        return None

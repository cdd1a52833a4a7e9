"""Sees to it that what was written is on the disk before a rename makes it visible."""

import os
from pathlib import Path


def sync_tree(folder: Path) -> None:
    """Have `folder` and all that is in it reach the disk."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


def sync(path: Path) -> None:
    """Have one file, or the names in one folder, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Crops of a photo: squares around box or head or of the whole, or of the photo's own shape."""

import math
from typing import NamedTuple

from PIL import Image

CROPS = ("portrait", "box", "whole", "bucket")
BUCKETS = ((6, 10), (7, 9), (8, 8), (9, 7), (10, 6))
"""Widths and heights in eighths of the resolution, none of more pixels than its square."""


class Box(NamedTuple):
    """A rectangle in pixels; right and bottom are outside it."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def area(self) -> float:
        return max(self.width, 0) * max(self.height, 0)

    @property
    def aspect(self) -> float:
        """Longer side over shorter side."""
        return max(self.width, self.height) / min(self.width, self.height)


def clip(box: Box, size: tuple[int, int]) -> Box | None:
    """The part of `box` inside a picture of `size` (width, height); None if there is none."""
    left, top = max(box.left, 0), max(box.top, 0)
    right, bottom = min(box.right, size[0]), min(box.bottom, size[1])
    return Box(left, top, right, bottom) if right - left >= 1 and bottom - top >= 1 else None


def orient(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Where `box` lies once a picture of stored `size` is turned as EXIF `orientation` says."""
    width, height = size
    left, top, right, bottom = box
    if orientation in (2, 3, 7, 8):  # mirrored left to right before any transposition
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    if orientation >= 5:
        left, top, right, bottom = top, left, bottom, right
    return Box(left, top, right, bottom)


def square(centre: tuple[float, float], side: float, size: tuple[int, int]) -> Box:
    """A square of whole pixels inside a picture of `size`.

    It moves when it would stick out, and shrinks to the short side when it cannot fit.
    """
    pixels = max(1, min(round(side), *size))
    left = min(max(round(centre[0] - pixels / 2), 0), size[0] - pixels)
    top = min(max(round(centre[1] - pixels / 2), 0), size[1] - pixels)
    return Box(left, top, left + pixels, top + pixels)


def square_around(box: Box, margin: float, size: tuple[int, int]) -> Box:
    """A square on the middle of `box`, `margin` times its longer side."""
    centre = ((box.left + box.right) / 2, (box.top + box.bottom) / 2)
    return square(centre, margin * max(box.width, box.height), size)


def centre_square(size: tuple[int, int]) -> Box:
    """The largest square in the middle of a picture."""
    return square((size[0] / 2, size[1] / 2), min(size), size)


def bucket(size: tuple[int, int], resolution: int) -> tuple[Box, tuple[int, int]]:
    """The largest part in the middle of a picture that has the shape of a bucket, and its new size.

    The bucket is the one of BUCKETS that has the picture's aspect ratio most nearly.
    """
    aspect = size[0] / size[1]
    width, height = min(BUCKETS, key=lambda pair: abs(math.log(pair[0] / pair[1] / aspect)))
    scale = min(size[0] / width, size[1] / height)
    left, top = (size[0] - scale * width) / 2, (size[1] - scale * height) / 2
    box = Box(left, top, left + scale * width, top + scale * height)
    return box, (width * resolution // 8, height * resolution // 8)


def cut(image: Image.Image, box: Box, resolution: int) -> Image.Image:
    """The part of `image` in `box`, resized with an antialiased filter to a square."""
    return image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=(*box,))

"""Tells from the pixels around an animal where it is, as far as colours tell it reliably.

Looked at by eye on photos of 24 breeds: "grass" was right in 60 of 72, "dark" in 33 of 36. Rules
tried for snow (16 of 43) and water (20 of 72) were wrong too often, and are left out.
"""

import numpy as np
from PIL import Image

from data.crops import Box

SCENES = {
    "grass": ("on the grass", "en la hierba"),
    "dark": ("on a dark background", "sobre un fondo oscuro"),
}
"""What captions say of each scene, in English and Spanish."""

LONGER_SIDE = 96
LEAST_AROUND = 0.08
GRASS_SHARE, DARK_SHARE = 0.45, 0.75


def scene_of(image: Image.Image, box: Box | None) -> str:
    """The scene of an RGB photo, a key of SCENES, or "" where it is none of them or cannot be told.

    What lies within `box` does not count. Grass: nearly half of what is seen around the animal in
    the lower half is green. Dark: three quarters of all that is around it are nearly black.
    """
    if box is None:
        return ""
    scale = LONGER_SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = np.asarray(image.resize(size, Image.Resampling.BOX).convert("HSV")).astype(float)
    hue, saturation, value = small[..., 0] * 360 / 255, small[..., 1] / 255, small[..., 2] / 255
    around = np.ones(hue.shape, dtype=bool)
    left, top = int(box.left * scale), int(box.top * scale)
    around[top : int(box.bottom * scale) + 1, left : int(box.right * scale) + 1] = False
    if around.mean() < LEAST_AROUND:
        return ""
    if (value[around] < 0.2).mean() > DARK_SHARE:
        return "dark"
    below = around.copy()
    below[: len(below) // 2] = False
    green = (hue > 55) & (hue < 170) & (saturation > 0.18) & (value > 0.12)
    enough = below.sum() > 20
    return "grass" if enough and green[below].mean() > GRASS_SHARE else ""

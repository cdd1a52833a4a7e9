"""Shows a heat map over the picture that it belongs to."""

import numpy as np
from PIL import Image

MAX_WORDS = 24
"""Of a prompt, the first ones; each becomes a picture."""
STRENGTH = 0.75
"""Of the colour where the map is highest."""


def mean_share(heat: Image.Image) -> float:
    """The part of a pixel's attention that a word got, over all pixels."""
    return float(np.asarray(heat).mean())


def overlay(picture: Image.Image, heat: Image.Image) -> Image.Image:
    """`heat` (mode F), its own range from least to most, as black-red-yellow-white over a grey
    `picture`."""
    values = np.asarray(heat.resize(picture.size, Image.Resampling.BICUBIC))
    spread = float(values.max() - values.min())
    share = (values - values.min())[..., None] / (spread or 1.0)
    colours = np.clip(3 * share - np.arange(3), 0, 1) * 255
    grey = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float32)
    mixed = 0.8 * grey * (1 - STRENGTH * share) + colours * STRENGTH * share
    return Image.fromarray(mixed.round().astype(np.uint8))

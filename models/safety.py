"""Asks a base's own safety checker about a picture; the picture itself stays as it is."""

import numpy as np
from diffusers import StableDiffusionPipeline
from PIL import Image


def is_flagged(pipeline: StableDiffusionPipeline, image: Image.Image) -> bool | None:
    """Whether the checker finds `image` unfit; None where the pipeline has no checker."""
    checker = pipeline.safety_checker
    if checker is None:
        return None
    pixels = pipeline.feature_extractor(image, return_tensors="pt").pixel_values
    # It blackens the pictures that it is given beside: not ours.
    _, flags = checker(
        clip_input=pixels.to(checker.device, checker.dtype), images=np.zeros((1, 1, 1, 3))
    )
    return bool(flags[0])

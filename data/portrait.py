"""Finds an animal's head: a square on the class activation map of an ImageNet classifier."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.classes import DOG_CLASSES
from data.crops import Box, cut, square
from data.efficientnet import fold, load_efficientnet, normalise_bytes

INPUT_SIZE = 288
TOP_CLASSES = 3
SIDE_IN_DEVIATIONS = 4.2
SIDE_LIMITS = (0.35, 0.90)


def activation_maps(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Mean class activation map of the classes with the highest logits.

    Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, eq. 2.

    Args:
        features: [B, C, H, W], what the classifier averages.
        weight: [K, C], the classifier's rows for the classes to choose from.
        bias: [K].

    Returns:
        [B, H, W].
    """
    logits = features.mean((2, 3)) @ weight.T + bias
    top = logits.topk(min(TOP_CLASSES, len(bias))).indices
    return torch.einsum("bchw,bkc->bhw", features, weight[top]) / top.shape[1]


def head_square(activation: np.ndarray, region: Box, size: tuple[int, int]) -> Box:
    """The square that holds most of an activation map [H, W] over a square `region` of a picture.

    The map is clamped at 0 and cubed; the square lies on its centre of mass and is 4.2 standard
    deviations wide (mean of both axes), within 35 to 90 % of `region`.
    """
    mass = np.maximum(activation, 0) ** 3
    if mass.sum() == 0:
        mass = np.ones_like(mass)
    mass = mass / mass.sum()
    centre, deviations = [], []
    for weights in (mass.sum(0), mass.sum(1)):  # x, then y, in units of the region's side
        places = (np.arange(len(weights)) + 0.5) / len(weights)
        mean = float(weights @ places)
        centre.append(mean)
        deviations.append(float(weights @ (places - mean) ** 2) ** 0.5)
    side = float(np.clip(SIDE_IN_DEVIATIONS * np.mean(deviations), *SIDE_LIMITS)) * region.width
    x = region.left + centre[0] * region.width
    y = region.top + centre[1] * region.height
    return square((x, y), side, size)


class HeadFinder:
    """EfficientNet-Lite0 with its ImageNet weights."""

    def __init__(self, classes: Sequence[int] = DOG_CLASSES) -> None:
        """Loads the network.

        Args:
            classes: ImageNet classes whose activation counts; all where none is named.
        """
        self._network = fold(load_efficientnet("lite0"))
        self._classes = list(classes or range(1000))

    @torch.inference_mode()
    def find(self, images: Sequence[Image.Image], regions: Sequence[Box]) -> list[Box]:
        """One square for each image (RGB), looked for in its square region."""
        inputs = [np.asarray(cut(i, r, INPUT_SIZE)) for i, r in zip(images, regions, strict=True)]
        pixels = torch.from_numpy(np.stack(inputs)).permute(0, 3, 1, 2)  # stays channels-last
        features = self._network.extract_features(normalise_bytes(pixels))
        classifier = self._network._fc
        maps = activation_maps(
            features, classifier.weight[self._classes], classifier.bias[self._classes]
        ).numpy()
        return [
            head_square(activation, region, image.size)
            for activation, region, image in zip(maps, regions, images, strict=True)
        ]

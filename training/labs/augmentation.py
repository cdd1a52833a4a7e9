"""Differentiable augmentation of photos and generated pictures alike (arXiv 2006.10738)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def colour(x: Tensor, u: Tensor) -> Tensor:
    """Brightness +-0.5, saturation 0 to 2, contrast 0.5 to 1.5, by uniform `u` `[B, 7]`."""
    brightness, saturation, contrast = u[:, :3, None, None, None].unbind(1)
    x = x + brightness - 0.5
    grey = x.mean(dim=1, keepdim=True)
    x = grey + 2 * saturation * (x - grey)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (contrast + 0.5) * (x - mean)


def translation(x: Tensor, u: Tensor) -> Tensor:
    """Shifted by up to an eighth in whole pixels; what comes in from outside is zero."""
    size = x.shape[-1]
    most = size // 8
    offsets = ((2 * most + 1) * u[:, 3:5]).long()
    padded = F.pad(x, (most, most, most, most))
    places = torch.arange(size)
    rows = (offsets[:, 0, None] + places)[:, None, :, None]
    columns = (offsets[:, 1, None] + places)[:, None, None, :]
    batch = torch.arange(len(x))[:, None, None, None]
    channels = torch.arange(x.shape[1])[None, :, None, None]
    return padded[batch, channels, rows, columns]


def cutout(x: Tensor, u: Tensor) -> Tensor:
    """A square of half the side is zero, at any place."""
    size = x.shape[-1]
    centres = ((size + 1) * u[:, 5:7]).long()
    near = (torch.arange(size) - centres[:, :, None] + 0.5).abs() < size / 4
    return x * ~(near[:, 0, :, None] & near[:, 1, None, :])[:, None]


AUGMENTATIONS = {"colour": colour, "translation": translation, "cutout": cutout}


def augment(x: Tensor, u: Tensor, names: Sequence[str]) -> Tensor:
    """T(x) of pictures `[B, 3, R, R]`, differentiable in x; `u` `[B, 7]` are uniform numbers.

    D sees T(x) and T(G(z)) and never a bare photo, so it cannot learn the few photos by heart; G is
    trained through T, so T does not leak into its pictures.
    """
    for name in names:
        x = AUGMENTATIONS[name](x, u)
    return x

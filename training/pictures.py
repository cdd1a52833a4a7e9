"""Prepared datasets as tensors, tensors as pictures, pictures as grids."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_pictures(x: Tensor) -> list[Image.Image]:
    """`[B, 3, H, W]` in [-1, 1] as RGB pictures."""
    bytes_ = x.float().add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
    return [Image.fromarray(picture) for picture in bytes_.cpu().numpy()]


def grid(pictures: Sequence[Image.Image], columns: int, gap: int = 2) -> Image.Image:
    """`pictures` of one size, row by row."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        sheet.paste(picture, (column * (width + gap), row * (height + gap)))
    return sheet


def pixels(pictures: Sequence[Image.Image]) -> Tensor:
    """RGB pictures of one size as bytes `[B, 3, H, W]`."""
    stacked = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()


def random_crops(
    pictures: Tensor, size: int | tuple[int, int], generator: torch.Generator, flips: bool = True
) -> Tensor:
    """One random window of each picture `[B, 3, H, W]`, half of them flipped.

    `size` is height and width, or the side of a square.
    """
    count, _, height, width = pictures.shape
    rows, columns = size if isinstance(size, tuple) else (size, size)
    tops = torch.randint(height - rows + 1, (count,), generator=generator).tolist()
    lefts = torch.randint(width - columns + 1, (count,), generator=generator).tolist()
    flipped = torch.rand(count, generator=generator) < (0.5 if flips else 0)
    windows = [
        picture[:, top : top + rows, left : left + columns]
        for picture, top, left in zip(pictures, tops, lefts, strict=True)
    ]
    crops = torch.stack(windows)
    return torch.where(flipped[:, None, None, None], crops.flip(-1), crops)


def draw_crops(pictures: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    """`count` random windows `[count, 3, size, size]` of bytes `[N, 3, H, W]`, normalised."""
    chosen = torch.randint(len(pictures), (count,), generator=generator)
    return normalise(random_crops(pictures[chosen], size, generator))


def normalise(pictures: Tensor) -> Tensor:
    """Bytes to [-1, 1] in `channels_last` order, as diffusers' autoencoders take them."""
    return pictures.float().div(127.5).sub(1).to(memory_format=torch.channels_last)


def frontal_weights(pictures: Tensor, groups: Tensor, bias: float) -> Tensor:
    """How often each of bytes `[N, 3, S, S]` is drawn; the weights of each group sum to 1.

    `groups` `[N]` numbers the groups from 0. Within one, a picture weighs exp(bias * c), c being
    its correlation with its mirror image.
    """
    weights = (bias * mirror_correlation(pictures)).exp()
    totals = torch.zeros(int(groups.max()) + 1).index_add(0, groups, weights)
    return weights / totals[groups]


def draw_weights(
    pictures: Tensor, subjects: Tensor, whole: Tensor, bias: float, box_share: float
) -> Tensor:
    """How often each of bytes `[N, 3, S, S]` is drawn: subjects alike, their fronts more.

    `subjects` `[N]` numbers them from 0. Where some are `whole` `[N]` animals and others heads,
    each subject's whole ones take `box_share` of its draws.
    """
    weights = frontal_weights(pictures, 2 * subjects + whole, bias)
    if whole.all() or not whole.any():
        return weights
    return weights * torch.where(whole, box_share, 1 - box_share)


def mirror_correlation(pictures: Tensor, side: int = 36, reach: int = 3) -> Tensor:
    """Correlation `[N]` of bytes `[N, 3, S, S]` with their mirror images, in grey, `side` px small.

    The best of the mirror axes within `reach` px of the middle: near 1 for a face from the front.
    """
    window = side - 2 * reach - 2
    edge = (side - window) // 2
    best = torch.full((len(pictures),), -1.0)
    for start in range(0, len(pictures), 512):
        part = pictures[start : start + 512].float().mean(dim=1, keepdim=True)
        small = torch.nn.functional.interpolate(part, size=(side, side), mode="area")[:, 0]
        for shift in range(-reach, reach + 1):
            left = edge + shift
            seen = small[:, edge : edge + window, left : left + window]
            centred = seen - seen.mean(dim=(1, 2), keepdim=True)
            mirrored = (centred * centred.flip(-1)).mean(dim=(1, 2))
            correlation = mirrored / centred.square().mean(dim=(1, 2)).clamp(min=1e-6)
            best[start : start + 512] = torch.maximum(best[start : start + 512], correlation)
    return best

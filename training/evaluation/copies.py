"""Whether a model draws its training photos: the nearest ones by the judge and by pixels."""

from typing import Any

import torch
from torch import Tensor

from training.evaluation.judge import Judge
from training.evaluation.metrics import COPY_RATIO, Copying, copying, pixel_vectors
from training.evaluation.photos import RealPhotos

SHOWN = 12
"""Pictures beside their nearest photos: those with the smallest ratios by features."""


def find_copies(
    judge: Judge,
    drawn: Tensor,
    features: Tensor,
    photos: RealPhotos,
    real_features: Tensor,
    rows: Tensor,
) -> tuple[dict[str, Any], Tensor]:
    """Compare pictures `[G, 3, H, W]` and their mirror images with the rows `[M]` of `photos`.

    `features` `[G, D]` and `real_features` `[N, D]` are the judge's of `drawn` and of all photos.

    Returns:
        The record, and the pictures nearest to a photo as `[SHOWN, 3, 3, H, W]`: picture, nearest
        photo by features, nearest photo by pixels.
    """
    mirrored = judge(drawn.flip(-1), progress="judging mirror images").features
    pictures, photo = photos.pictures[rows], photos.photo[rows]
    by_features = copying(torch.stack([features, mirrored]), real_features[rows], photo)
    views = torch.stack([pixel_vectors(drawn), pixel_vectors(drawn.flip(-1))])
    by_pixels = copying(views, pixel_vectors(pictures), photo)
    record = {
        "definition": "distance to the nearest training photo under "
        f"{COPY_RATIO:.3f} of that to the second nearest (Yoon et al. 2023)",
        "training_photos": len(photo.unique()),
        "features": _summary(by_features),
        "pixels": _summary(by_pixels),
    }
    shown = by_features.ratios.argsort()[:SHOWN]
    columns = (
        drawn[shown],
        pictures[by_features.nearest[shown]],
        pictures[by_pixels.nearest[shown]],
    )
    return record, torch.stack(columns, dim=1)


def _summary(found: Copying) -> dict[str, float]:
    return {
        "rate": found.rate,
        "lowest_ratio": float(found.ratios.min()),
        "median_ratio": float(found.ratios.median()),
    }

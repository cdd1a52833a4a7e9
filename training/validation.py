"""Knowing when: the fixed validation batch, when to stop, which weights are best."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.evaluation.judge import Judge
from training.evaluation.metrics import class_drift, copying, subject_similarity
from training.material import Batch

ROWS = 16
WINDOW = 10
"""Validation losses that DVAR looks back on."""
DRIFT_WEIGHT = COPY_WEIGHT = 0.5


def validation_batch(latents: Tensor, texts: Sequence[int], timesteps: int) -> Batch:
    """Sixteen latents of `[M, C, h, w]`, each at a timestep of its own, with noise of its own, all
    the same at every call; `texts` holds a row of the table of texts for each latent."""
    rows = torch.arange(ROWS) % len(latents)
    chosen = latents[rows]
    noise = torch.randn(chosen.shape, generator=torch.Generator().manual_seed(0))
    middles = (torch.arange(ROWS) + 0.5) * timesteps / ROWS
    return Batch(chosen, noise, middles.long(), torch.tensor(texts)[rows], ROWS)


def dvar(losses: Sequence[float]) -> float:
    """The variance of the last ten losses over that of all (Voronov et al. 2023, arXiv 2302.04841).

    1 as long as there are not twice ten.
    """
    if len(losses) < 2 * WINDOW:
        return 1.0
    values = torch.tensor(losses, dtype=torch.float64)
    return float(values[-WINDOW:].var() / values.var().clamp(min=1e-30))


@dataclass(frozen=True)
class Score:
    """How good some weights are, by what they draw."""

    subject_similarity: float
    """Mean cosine of samples and photos of each subject, of EfficientNet-Lite2 features."""
    class_drift: float
    """Mean cosine distance of samples of the class from the base's of the same seeds."""
    copying: float
    """Share of the subjects' samples that are copies of a photo."""

    @property
    def total(self) -> float:
        """What the best weights have most of."""
        return (
            self.subject_similarity - DRIFT_WEIGHT * self.class_drift - COPY_WEIGHT * self.copying
        )


class Scorer:
    """Judges samples against the photos of their subjects and the base's samples of the class."""

    def __init__(self, photos: list[Tensor], class_samples: Tensor) -> None:
        """`photos` of each subject and `class_samples` of the base: bytes `[N, 3, H, W]`."""
        self._judge = Judge()
        self._photos = [self._judge(part).features for part in photos]
        self._class = self._judge(class_samples).features

    def __call__(self, samples: list[Tensor], class_samples: Tensor) -> Score:
        """The score of samples `[n, 3, H, W]` of each subject and of the class."""
        similarities, copies = [], []
        for photos, own in zip(self._photos, samples, strict=True):
            views = torch.stack([self._judge(view).features for view in (own, own.flip(-1))])
            similarities.append(subject_similarity(views[0], photos))
            copies.append(copying(views, photos).rate)
        after = self._judge(class_samples).features
        return Score(
            sum(similarities) / len(similarities),
            class_drift(self._class, after),
            sum(copies) / len(copies),
        )

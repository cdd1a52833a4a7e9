"""What is measured of pictures: pure functions of a judge's features and probabilities.

Metrics that the literature defines with another encoder keep their formula and carry the judge's
name where they are reported (KID-EffLite, DIV-EffLite, PRES-EffLite): their values compare with
each other, not with published ones.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from prdc import compute_prdc
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.image.kid import poly_mmd

COPY_RATIO = 1 / 3
"""Below this ratio of distances a picture counts as a copy (Yoon et al. 2023)."""


def top_k_rate(probabilities: Tensor, classes: Tensor | int, k: int) -> float:
    """Share of `probabilities` `[N, C]` that have the picture's class among the `k` highest.

    `classes` is `[N]`, or one class for all.
    """
    _need(probabilities, 1, "probabilities")
    wanted = torch.as_tensor(classes).expand(len(probabilities))
    return float((probabilities.topk(k).indices == wanted[:, None]).any(dim=1).float().mean())


def class_rate(probabilities: Tensor, classes: Sequence[int]) -> float:
    """Share of `probabilities` `[N, C]` whose highest is one of `classes`: dogs, or cats."""
    _need(probabilities, 1, "probabilities")
    return float(
        torch.isin(probabilities.argmax(dim=1), torch.tensor(list(classes))).float().mean()
    )


@dataclass(frozen=True)
class Kid:
    """Kernel distance over subsets."""

    mean: float
    std: float
    """Over the subsets. They overlap, and a sample no larger than a subset adds nothing to it: the
    error of the mean is larger than std / sqrt(subsets)."""


def kid(
    generated: Tensor, real: Tensor, seed: int = 0, subsets: int = 100, subset_size: int = 100
) -> Kid:
    """Squared maximum mean discrepancy of features `[N, D]` and `[M, D]`, by subsets.

    Binkowski et al. 2018, "Demystifying MMD GANs" (arXiv 1801.01401), section 4: unbiased estimate
    with the kernel k(x, y) = (x.y / D + 1)^3. Around 0, also below, for two samples of one
    distribution. Subsets have `subset_size` pictures, or as many as there are.
    """
    _need(generated, 2, "generated")
    _need(real, 2, "real")
    size = min(subset_size, len(generated), len(real))
    generator = torch.Generator().manual_seed(seed)

    def draw(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:size]].double()

    values = torch.stack([poly_mmd(draw(real), draw(generated)) for _ in range(subsets)])
    return Kid(float(values.mean()), float(values.std(unbiased=False)))


def precision_recall_density_coverage(
    generated: Tensor, real: Tensor, nearest_k: int = 5
) -> dict[str, float]:
    """How far features `[N, D]` lie within those of real pictures `[M, D]`, and the other way.

    Keys `precision`, `recall` (Kynkaanniemi et al. 2019, arXiv 1904.06991), `density`, `coverage`
    (Naeem et al. 2020, arXiv 2002.09797, eqs. 4 and 5), by the authors' own package.
    """
    _need(generated, nearest_k + 2, "generated")
    _need(real, nearest_k + 2, "real")
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints the numbers of pictures
        found = compute_prdc(real.double().numpy(), generated.double().numpy(), nearest_k)
    return {name: float(value) for name, value in found.items()}


def nearest_mean(features: Tensor, groups: Sequence[Tensor]) -> Tensor:
    """Which of `groups` `[M, D]` has the mean that each of `features` `[N, D]` is nearest to `[N]`.

    By cosine. It tells kinds apart that the judge has no class for, from photos of each.
    """
    means = torch.stack([group.double().mean(dim=0) for group in groups])
    return cosine_similarities(features, means).argmax(dim=1)


def cosine_similarities(a: Tensor, b: Tensor) -> Tensor:
    """Cosine `[N, M]` of every row of `a` `[N, D]` with every row of `b` `[M, D]`."""
    return F.normalize(a.double(), dim=1) @ F.normalize(b.double(), dim=1).T


def subject_similarity(generated: Tensor, real: Tensor) -> float:
    """Mean pairwise cosine of features `[N, D]` of pictures and `[M, D]` of photos of a subject.

    DreamBooth's subject fidelity (Ruiz et al. 2022, arXiv 2208.12242, section 4.1): CLIP-I with
    CLIP's image embeddings, DINO with DINO's.
    """
    _need(generated, 1, "generated")
    _need(real, 1, "real")
    return float(cosine_similarities(generated, real).mean())


def similarity_across(a: Tensor, b: Tensor, groups: Tensor) -> float:
    """Mean cosine of the pairs of rows of `a` and `b` `[N, D]` whose `groups` `[N]` differ.

    The ceiling of `subject_similarity`: `a` and `b` hold the same photos of a subject (or one of
    them their reconstructions), `groups` numbers the photos, and no photo meets itself.
    """
    apart = groups[:, None] != groups[None, :]
    if not apart.any():
        raise ValueError("groups: two photos at least are needed")
    return float(cosine_similarities(a, b)[apart].mean())


def diversity(features: Tensor) -> float:
    """Mean cosine distance of the pairs of `features` `[N, D]` of one prompt's pictures.

    DIV-EffLite: DreamBooth's DIV (section 4.3) is the mean LPIPS distance of the same pairs.
    """
    _need(features, 2, "features")
    return 1 - similarity_across(features, features, torch.arange(len(features)))


def prior_preservation(class_pictures: Tensor, real: Tensor) -> float:
    """Mean pairwise cosine of pictures of the class `[N, D]` and photos of the subject `[M, D]`.

    PRES-EffLite: DreamBooth's PRES (section 4.3) with DINO. Higher is worse: the class has become
    the subject. Judge it beside the base's value before training.
    """
    return subject_similarity(class_pictures, real)


def class_drift(before: Tensor, after: Tensor) -> float:
    """Mean cosine distance of a class prompt's features `[N, D]` before and after training.

    Row i of both comes of the same seed. 0: nothing moved; the base's own `diversity` is how far
    pictures of different seeds lie apart.
    """
    _need(before, 1, "before")
    if before.shape != after.shape:
        raise ValueError(f"before {tuple(before.shape)} and after {tuple(after.shape)} differ")
    return float(1 - F.cosine_similarity(before.double(), after.double(), dim=1).mean())


@dataclass(frozen=True)
class Copying:
    """How near each of G pictures is to a training photo."""

    ratios: Tensor
    """`[G]`: distance to the nearest photo over that to the second nearest."""
    nearest: Tensor
    """`[G]`: row of the training pictures that is nearest."""

    @property
    def rate(self) -> float:
        """Share of pictures that count as copies."""
        return float((self.ratios < COPY_RATIO).float().mean())


def copying(views: Tensor, training: Tensor, photo: Tensor | None = None) -> Copying:
    """Find the training photos that pictures `[V, G, D]` (V views of each) lie nearest to.

    A picture counts as a copy where d(nearest) < 1/3 d(second nearest), Euclidean (Yoon et al.
    2023, "Diffusion Probabilistic Models Generalize when They Fail to Memorize", definition 1; Gu
    et al. 2023, arXiv 2310.02664, use the same). The distance to a photo is the smallest over the
    views (the picture and its mirror image: mirroring the pictures instead of every photo costs
    less) and over the photo's rows of `training` `[N, D]`: `photo` `[N]` numbers the photos where
    several crops of one are there, or its second crop would be the second nearest.
    """
    crops = torch.cdist(views.double(), training.double().expand(len(views), -1, -1)).amin(dim=0)
    number = torch.arange(len(training)) if photo is None else photo.unique(return_inverse=True)[1]
    count = int(number.max()) + 1 if len(number) else 0
    if count < 2:
        raise ValueError(f"training: {count} photos are too few, 2 needed")
    distances = torch.full((len(crops), count), torch.inf, dtype=crops.dtype)
    distances.scatter_reduce_(1, number.expand(len(crops), -1), crops, "amin")
    smallest = distances.topk(2, largest=False)
    first, second = smallest.values[:, 0], smallest.values[:, 1]
    # A photo that is there twice and met exactly makes a copy too, not 0 / 0.
    ratios = torch.where(second > 0, first / second.clamp(min=1e-12), torch.zeros_like(first))
    of_nearest = number[None, :] == smallest.indices[:, :1]
    return Copying(ratios, crops.masked_fill(~of_nearest, torch.inf).argmin(dim=1))


def pixel_vectors(pictures: Tensor, side: int = 32) -> Tensor:
    """Bytes `[N, 3, H, W]` shrunk to `side` px, as `[N, 3 * side^2]` in [0, 1].

    Small, so that a copy is found though its crop or its sharpness is a little off.
    """
    parts = [
        F.interpolate(part.float() / 255, size=(side, side), mode="bilinear", antialias=True)
        for part in pictures.split(256)
    ]
    return torch.cat(parts).flatten(1)


def _need(features: Tensor, least: int, name: str) -> None:
    if len(features) < least:
        raise ValueError(f"{name}: {len(features)} pictures are too few, {least} needed")

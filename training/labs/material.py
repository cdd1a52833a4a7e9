"""The photos that a lab learns from, and those it is compared with."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from data.classes import PhotoClass, class_in_report
from data.crops import centre_square, cut
from data.photos import UnusablePhoto, open_photo
from training.config import ConfigError
from training.pictures import frontal_weights, pixels, random_crops
from training.prepared import names_meant, pictures_of, read_prepared

LEAST_PHOTOS = 8
HOLD_OUT_EVERY = 6
FRONTAL_BIAS = 5.0
"""Faces from the front are drawn more often (`frontal_weights`): one pose is learned soonest."""


@dataclass(frozen=True)
class Material:
    """Photos to learn from, and photos of the same subjects that are only compared with."""

    pictures: Tensor
    """Bytes `[N, 3, S, S]`, S an eighth larger than the resolution: room for random crops."""
    weights: Tensor
    """How often each `[N]` is drawn."""
    held_out: Tensor
    """Bytes `[M, 3, R, R]`."""
    names: list[str]
    """The breeds, or the name of the folder of photos."""
    resolution: int
    shown: PhotoClass | None = None
    """Dogs, or what else they show; None where nobody told."""

    @property
    def fingerprint(self) -> str:
        """The same for the same photos at the same resolution."""
        return hashlib.sha256(self.pictures.numpy().tobytes()).hexdigest()

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` random crops `[B, 3, R, R]` of random photos, as bytes."""
        rows = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        return random_crops(self.pictures[rows], self.resolution, generator)


def read_material(folder: Path, breeds: Sequence[str], resolution: int) -> Material:
    """Photos of a prepared dataset (the portraits, where it has some), or of any folder.

    Held out is the test list where the dataset has one, else every sixth photo.
    Raises ConfigError for a folder without photos, for too few photos or too small ones, and
    DataError for a breed that nobody knows.
    """
    if not folder.is_dir():
        raise ConfigError(f"dataset: {str(folder)!r} is no folder")
    shown = None
    if (folder / "report.json").is_file():
        pictures, names, tested, shown = _prepared_photos(folder, breeds)
    elif breeds:
        raise ConfigError(f"breeds: {str(folder)!r} is a folder of photos, which names no breeds")
    else:
        pictures, names, tested = _loose_photos(folder, resolution)
    if pictures.shape[-1] < resolution:
        raise ConfigError(
            f"resolution: {resolution} px is more than the photos' {pictures.shape[-1]} px"
        )
    if len(pictures) < LEAST_PHOTOS:
        raise ConfigError(
            f"dataset: {str(folder)!r} has {len(pictures)} photos, {LEAST_PHOTOS} are needed"
        )
    if not 0 < tested.sum() <= len(tested) - LEAST_PHOTOS // 2:
        tested = torch.arange(len(tested)) % HOLD_OUT_EVERY == HOLD_OUT_EVERY - 1
    kinds = sorted(set(names))
    groups = torch.tensor([kinds.index(name) for name in names])[~tested]
    groups = groups.unique(return_inverse=True)[1]
    roomy = resized(pictures, resolution * 9 // 8)
    edge = (roomy.shape[-1] - resolution) // 2
    return Material(
        pictures=roomy[~tested],
        weights=frontal_weights(roomy[~tested], groups, FRONTAL_BIAS),
        held_out=roomy[tested, :, edge : edge + resolution, edge : edge + resolution],
        names=kinds,
        resolution=resolution,
        shown=shown,
    )


def _prepared_photos(
    folder: Path, breeds: Sequence[str]
) -> tuple[Tensor, list[str], Tensor, PhotoClass]:
    """Bytes `[N, 3, S, S]`, the breed of each, whether it is on the test list, the class of all."""
    rows, report = read_prepared(folder)
    wanted = names_meant(rows, breeds)
    if missing := wanted - set(rows["breed"]):
        raise ConfigError(f"breeds: the dataset has no {', '.join(sorted(missing))}")
    crop = "portrait" if "portrait" in rows["crop"] else rows["crop"][0]
    kinds = zip(rows["breed"], rows["crop"], strict=True)
    rows = rows.select(
        [i for i, (b, c) in enumerate(kinds) if c == crop and (not wanted or b in wanted)]
    )
    tested = torch.tensor([split == "test" for split in rows["split"]])
    return pictures_of(rows), list(rows["breed"]), tested, class_in_report(report)


def _loose_photos(folder: Path, resolution: int) -> tuple[Tensor, list[str], Tensor]:
    """The middle squares of all usable photos in `folder`, an eighth larger than needed."""
    squares: list[Image.Image] = []
    small = 0
    for path in sorted(folder.iterdir()):
        try:
            photo = open_photo(path).image
        except UnusablePhoto:
            continue
        if min(photo.size) < resolution:
            small += 1
        else:
            squares.append(cut(photo, centre_square(photo.size), resolution * 9 // 8))
    if not squares and small:
        raise ConfigError(f"resolution: all {small} photos are smaller than {resolution} px")
    if not squares:
        raise ConfigError(f"dataset: no photos in {str(folder)!r}")
    return pixels(squares), [folder.name] * len(squares), torch.zeros(len(squares)).bool()


def resized(pictures: Tensor, side: int) -> Tensor:
    """Bytes `[N, 3, S, S]` at another size, averaged where they shrink."""
    if pictures.shape[-1] == side:
        return pictures
    parts = [
        F.interpolate(part.float(), size=(side, side), mode="bilinear", antialias=True)
        for part in pictures.split(256)
    ]
    return torch.cat(parts).round().clamp(0, 255).byte()

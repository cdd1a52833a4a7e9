"""Real photos to judge beside: a prepared dataset, or a folder of photos of one animal."""

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data.classes import PhotoClass, class_in_report
from data.prepare import prepare_photos
from data.selection import Settings
from training.config import ConfigError
from training.prepared import pictures_of, read_prepared
from training.pretrain import centre_crops


@dataclass(frozen=True)
class RealPhotos:
    """Crops of real photos, one a row."""

    pictures: Tensor
    """Bytes `[N, 3, R, R]`."""
    photo: Tensor
    """Number of the photo `[N]`: several crops of one photo share it."""
    names: list[str]
    """Breed, or the animal's name, of each row."""
    spanish: list[str]
    """The same in Spanish."""
    synsets: list[str]
    """"" where it is no breed of Stanford Dogs."""
    crops: list[str]
    splits: list[str]
    """"train" or "test" of the dataset's lists, "" where there are none."""
    fingerprint: str
    shown: PhotoClass
    """Dogs, or what else they show."""

    @property
    def best_crop(self) -> str:
        """What plain captions stand for: heads where there are any."""
        return "portrait" if "portrait" in self.crops else self.crops[0]

    def rows(
        self,
        split: str | None = None,
        crop: str | None = None,
        names: Collection[str] | None = None,
    ) -> Tensor:
        """Numbers `[M]` of the rows of this split, this crop and these breeds; None takes all."""
        chosen = [
            row
            for row in range(len(self.names))
            if split in (None, self.splits[row])
            and crop in (None, self.crops[row])
            and (names is None or self.names[row] in names)
        ]
        return torch.tensor(chosen, dtype=torch.long)


def read_photos(folder: Path, resolution: int, breeds: Sequence[str] | None = None) -> RealPhotos:
    """The middle `resolution` px of the pictures of a prepared dataset, of these breeds only.

    Raises ConfigError for a folder that holds none, for breeds that it lacks, and for pictures
    that are smaller.
    """
    table, report = read_prepared(folder)
    table = table.select([i for i, crop in enumerate(table["crop"]) if crop != "bucket"])
    if breeds is not None:
        table = table.select([i for i, name in enumerate(table["breed"]) if name in breeds])
        if missing := set(breeds) - set(table["breed"]):
            raise ConfigError(f"dataset: {str(folder)!r} has no {', '.join(sorted(missing))}")
    pictures = pictures_of(table)
    if pictures.shape[-1] < resolution:
        raise ConfigError(
            f"dataset: its pictures have {pictures.shape[-1]} px, the model draws {resolution} px"
        )
    sources = sorted(set(table["source"]))
    numbers = {source: number for number, source in enumerate(sources)}
    return RealPhotos(
        pictures=centre_crops(pictures, resolution),
        photo=torch.tensor([numbers[source] for source in table["source"]]),
        names=list(table["breed"]),
        spanish=list(table["breed_es"]),
        synsets=list(table["synset"]),
        crops=list(table["crop"]),
        splits=list(table["split"]),
        fingerprint=report["fingerprint"],
        shown=class_in_report(report),
    )


def crop_photos(folder: Path, resolution: int, name: str, class_word: str) -> RealPhotos:
    """The photos of one animal in `folder`, cropped as DreamBooth's command crops them.

    Raises DataError when there is no such folder or no usable photo in it.
    """
    settings = Settings(crops=("portrait", "whole"), resolution=resolution, min_side=1)
    with tempfile.TemporaryDirectory() as home:
        output = Path(home) / "photos"
        prepare_photos(folder, output, name, class_word, settings)
        return read_photos(output, resolution)


def needed_dataset(dataset: Path | None) -> Path:
    """`dataset`; ConfigError where there is none."""
    if dataset is None:
        raise ConfigError("dataset: needed to judge beside real photos; give --dataset")
    return dataset

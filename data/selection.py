"""Chooses photos: opens each, finds its box, filters, and enters every one in the report."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from pathlib import Path

from tqdm import tqdm

from data.breeds import BREEDS, Breed
from data.captions import instance_captions
from data.classes import DOGS, PhotoClass
from data.crops import CROPS, Box, clip, orient
from data.duplicates import Duplicates
from data.photos import Photo, UnusablePhoto, open_photo
from data.report import Report
from data.stanford import SPLITS, BadAnnotation, Entry, read_boxes


@dataclass(frozen=True)
class Settings:
    """What to keep and how to cut it; checked once, here."""

    breeds: tuple[Breed, ...] = BREEDS
    per_class: int | None = None
    """Most photos of one breed, drawn by the seed; None keeps all."""
    split: str = "all"
    """"train" or "test" of the official lists, or "all"."""
    min_side: int = 64
    """Shortest side of the box (of the picture where there is no box), in pixels."""
    max_aspect: float = 3.0
    """Longer side over shorter side of the same."""
    boxes: str = "largest"
    """What to do with several boxes: take the "largest", or "drop" the photo."""
    crops: tuple[str, ...] = ("box",)
    margin: float = 1.1
    """Side of the box crop, in longer sides of the box."""
    resolution: int = 128
    """Side of the pictures written, in pixels."""
    dedup_distance: int | None = 3
    """Perceptual hashes of 64 bits this close are one photo; None keeps duplicates."""
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {"split": (*SPLITS, "all"), "boxes": ("largest", "drop")}
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise ValueError(f"{key} must be one of {allowed}, not {getattr(self, key)!r}")
        if not self.crops or not set(self.crops) <= set(CROPS):
            raise ValueError(f"crops must be some of {CROPS}, not {self.crops!r}")
        least = {"per_class": 1, "min_side": 1, "max_aspect": 1, "margin": 0.1, "resolution": 8}
        for key, low in least.items() | {("dedup_distance", 0)}:
            value = getattr(self, key)
            if value is not None and not value >= low:
                raise ValueError(f"{key} must be at least {low}, not {value!r}")


@dataclass(frozen=True)
class Subject:
    """What the photos of one group show."""

    name: str
    spanish: str
    synset: str
    captions: Callable[[str], dict[str, list[str]]]
    """All captions ("en", "es") for a kind of crop."""


@dataclass(frozen=True)
class Candidate:
    """A photo to crop."""

    subject: Subject
    path: Path
    source: str
    split: str
    box: Box | None
    """In the upright picture, inside it; None for a photo without annotation."""
    clipped: bool
    """The annotated box stuck out of the picture."""


def breed_subject(breed: Breed) -> Subject:
    """A breed of dogs as what photos show."""
    return kind_subject(breed.name, breed.spanish, DOGS, breed.synset)


def kind_subject(name: str, spanish: str, photo_class: PhotoClass, synset: str = "") -> Subject:
    """One kind of a class as what photos show; `synset` is a breed's of Stanford Dogs."""
    return Subject(name, spanish, synset, lambda crop: photo_class.captions(name, spanish, crop))


def instance_subject(name: str, class_word: str) -> Subject:
    """One animal as what photos show."""
    return Subject(name, name, "", lambda crop: instance_captions(name, class_word, crop))


def _find_box(photo: Photo, annotation: Path | None, boxes: str) -> tuple[Box | None, bool]:
    """The box to use, upright and inside the picture, and whether it had to be clipped.

    None where nothing is annotated.
    """
    if annotation is None:
        return None, False
    width, height = photo.image.size
    stored = (height, width) if photo.orientation >= 5 else (width, height)
    try:
        found = [orient(box, stored, photo.orientation) for box in read_boxes(annotation, stored)]
    except BadAnnotation as error:
        raise UnusablePhoto("unreadable annotation", str(error)) from error
    if not found:
        return None, False
    if len(found) > 1 and boxes == "drop":
        raise UnusablePhoto("several boxes", str(len(found)))
    inside = [(part, part != box) for box in found if (part := clip(box, photo.image.size))]
    if not inside:
        raise UnusablePhoto("box outside the picture")
    return max(inside, key=lambda pair: pair[0].area)


def _check_shape(photo: Photo, box: Box | None, settings: Settings) -> None:
    shape = box or Box(0, 0, *photo.image.size)
    of = "box" if box else "picture"
    if min(shape.width, shape.height) < settings.min_side:
        raise UnusablePhoto(f"{of} too small", f"{shape.width:.0f}x{shape.height:.0f}")
    if shape.aspect > settings.max_aspect:
        raise UnusablePhoto(f"{of} too long", f"{shape.width:.0f}x{shape.height:.0f}")


def _examine(
    entry: Entry, subject: Subject, settings: Settings, duplicates: Duplicates | None
) -> Candidate:
    """Opens a file and finds its box.

    Raises:
        UnusablePhoto: it cannot be opened, or a filter drops it.
    """
    photo = open_photo(entry.path)
    box, clipped = _find_box(photo, entry.annotation, settings.boxes)
    _check_shape(photo, box, settings)
    if duplicates:
        twin = duplicates.find(entry.source, subject.name, entry.path, photo.image)
        if twin:
            raise UnusablePhoto(*twin)
    return Candidate(subject, entry.path, entry.source, entry.split, box, clipped)


def select(
    entries: Mapping[Subject, Sequence[Entry]], settings: Settings, report: Report
) -> list[Candidate]:
    """The photos to crop, by subject and then by name; the report gets every file of `entries`."""
    duplicates = None if settings.dedup_distance is None else Duplicates(settings.dedup_distance)
    candidates: list[Candidate] = []
    progress = tqdm(total=sum(map(len, entries.values())), desc="checking", disable=None)
    for subject, files in entries.items():
        account = report.group(subject.name)
        account.spanish = subject.spanish
        kept: list[Candidate] = []
        order = list(files)
        if settings.per_class is not None:
            random.Random(f"{settings.seed}/{subject.name}").shuffle(order)
        for entry in order:
            account.found += 1
            progress.update()
            try:
                if settings.split not in ("all", entry.split):
                    raise UnusablePhoto(f"not in the {settings.split} list")
                if len(kept) == settings.per_class:
                    raise UnusablePhoto("beyond the number per class")
                kept.append(_examine(entry, subject, settings, duplicates))
            except UnusablePhoto as error:
                account.drop(entry.source, error.reason, error.detail)
        account.kept = len(kept)
        account.clipped = sum(candidate.clipped for candidate in kept)
        account.dropped.sort(key=itemgetter("source"))
        candidates += sorted(kept, key=attrgetter("source"))
    progress.close()
    return candidates

"""The photos that a run learns from: of whom, by what captions, which are held out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from data.captions import instance_captions
from data.classes import class_in_report, holds_kinds
from training.captioning import training_captions
from training.config import ConfigError
from training.dreambooth_config import DreamBoothConfig
from training.pictures import draw_weights, frontal_weights
from training.prepared import names_meant, pictures_of, read_prepared
from training.report import say

LEAST_PHOTOS = 2
HOLD_OUT_FROM = 6
"""A subject with this many photos keeps some of them for validation."""
PIECES = 3
"""A name that the tokenizer splits into more pieces than this is hard to learn."""


@dataclass(frozen=True)
class Bucket:
    """Photos in an aspect ratio of their own."""

    pictures: Tensor
    """Bytes `[N, 3, H, W]`."""
    photo_rows: Tensor
    """As those of Subjects."""
    prompts: list[list[str]]

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True)
class Subjects:
    """The photos to learn and what to call them."""

    pictures: Tensor
    """Bytes `[N, 3, S, S]`."""
    subject_rows: Tensor
    """Which subject each row `[N]` shows, as an index into `instance_prompts`."""
    photo_rows: Tensor
    """Which photo each row `[N]` was cut from."""
    whole_rows: Tensor
    """Whether each row `[N]` shows more than a head."""
    prompts: list[list[str]]
    """All captions of each row; the first is a plain English one."""
    instance_prompts: list[str]
    """One plain English prompt a subject."""
    names: list[str]
    """What each subject is called."""
    breeds: list[str]
    class_word: str
    fingerprint: str
    buckets: list[Bucket]
    """The same photos uncut, where the dataset has them so; validation and scores take squares."""

    def held_out(self) -> Tensor:
        """Which rows `[N]` are kept for validation: every sixth photo of a subject that has six,
        eight at most. All crops of a photo go the same way."""
        chosen = torch.zeros(len(self.subject_rows), dtype=torch.bool)
        for subject in range(len(self.instance_prompts)):
            photos = self.photo_rows[self.subject_rows == subject].unique()
            if len(photos) >= HOLD_OUT_FROM:
                kept = photos[HOLD_OUT_FROM - 1 :: HOLD_OUT_FROM][:8]
                chosen |= torch.isin(self.photo_rows, kept)
        return chosen

    def draw_weights(self, frontal_bias: float, box_share: float | None) -> Tensor:
        """How often each row `[N]` is drawn; with a bias or a share, subjects alike."""
        if box_share is not None:
            return draw_weights(
                self.pictures, self.subject_rows, self.whole_rows, frontal_bias, box_share
            )
        if frontal_bias == 0:
            return torch.ones(len(self.pictures))
        return frontal_weights(self.pictures, self.subject_rows, frontal_bias)


def read_subjects(
    folder: Path, breeds: Sequence[str] = (), split: str = "all", setting: str = "breeds"
) -> Subjects:
    """Read a prepared dataset, of these breeds only; `split` "train" leaves out its test list.

    Raises ConfigError where `folder` holds none, lacks a breed of the `setting`, or has a subject
    of one photo.
    """
    rows, report = read_prepared(folder)
    if split == "train":
        rows = rows.select([i for i, own in enumerate(rows["split"]) if own != "test"])
    if breeds:
        wanted = names_meant(rows, breeds)
        rows = rows.select([i for i, breed in enumerate(rows["breed"]) if breed in wanted])
        if missing := wanted - set(rows["breed"]):
            raise ConfigError(f"{setting}: the dataset has no {', '.join(sorted(missing))}")
    shown, are_kinds = class_in_report(report), holds_kinds(report)
    kinds = list(zip(rows["synset"], rows["breed"], rows["breed_es"], rows["crop"], strict=True))

    def named(_: str, name: str, spanish: str) -> "partial[dict[str, list[str]]]":
        if are_kinds:
            return partial(shown.captions, name, spanish)
        return partial(instance_captions, name, shown.word)

    subjects = sorted({kind[:3] for kind in kinds})
    # As in the base: plain captions are for heads where there are any, whole animals say so.
    with_heads = {kind[:3] for kind in kinds if kind[3] == "portrait"}
    texts = {
        kind: training_captions(
            named(*kind[:3]),
            "box" if kind[:3] in with_heads and kind[3] in ("whole", "bucket") else kind[3],
        )
        for kind in set(kinds)
    }
    photos = list(zip(rows["breed"], rows["source"], strict=True))
    for _, name, _ in subjects:
        if (count := len({photo for photo in photos if photo[0] == name})) < LEAST_PHOTOS:
            raise ConfigError(
                f"dataset: {count} photo of {name!r}; it takes {LEAST_PHOTOS} or more, best 4 to 6"
            )
    numbers = {photo: number for number, photo in enumerate(sorted(set(photos)))}
    squares = [row for row, kind in enumerate(kinds) if kind[3] != "bucket"]
    if not squares:
        raise ConfigError("dataset: it takes a square crop beside 'bucket', portrait or whole")
    shapes: dict[tuple[int, int], list[int]] = {}
    for row in sorted(set(range(len(kinds))) - set(squares)):
        shapes.setdefault(rows[row]["image"].size, []).append(row)
    return Subjects(
        pictures=pictures_of(rows.select(squares)),
        subject_rows=torch.tensor([subjects.index(kinds[row][:3]) for row in squares]),
        photo_rows=torch.tensor([numbers[photos[row]] for row in squares]),
        whole_rows=torch.tensor([kinds[row][3] != "portrait" for row in squares]),
        prompts=[texts[kinds[row]] for row in squares],
        instance_prompts=[named(*subject)("whole")["en"][0] for subject in subjects],
        names=[name for _, name, _ in subjects],
        breeds=[name for _, name, _ in subjects] if are_kinds else [],
        class_word=shown.word,
        fingerprint=report["fingerprint"],
        buckets=[
            Bucket(
                pictures_of(rows.select(chosen)),
                torch.tensor([numbers[photos[row]] for row in chosen]),
                [texts[kinds[row]] for row in chosen],
            )
            for _, chosen in sorted(shapes.items())
        ],
    )


def read_others(config: DreamBoothConfig, subjects: Subjects) -> Subjects:
    """The breeds of `prior = "breeds"`: those that the run names, or all that it does not learn.

    Raises ConfigError where there is none, or where one is learned itself.
    """
    if subjects.buckets:
        raise ConfigError("prior: 'breeds' takes square crops only, and the dataset has buckets")
    rows, _ = read_prepared(config.dataset)
    wanted = names_meant(rows, config.class_breeds) or set(rows["breed"]) - set(subjects.names)
    if not wanted:
        raise ConfigError("prior: 'breeds' needs a dataset with breeds that are not learned")
    if learned := wanted & set(subjects.names):
        raise ConfigError(f"class_breeds: {', '.join(sorted(learned))} is to be learned itself")
    return read_subjects(config.dataset, sorted(wanted), config.split, "class_breeds")


def say_what_was_dropped(folder: Path) -> None:
    """Tell on stderr which photos the prepared dataset in `folder` left out."""
    _, report = read_prepared(folder)
    if dropped := report["totals"]["reasons"]:
        counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        say(f"photos that cannot be used: {counts} (report.json names them)")


def warn_of_split_names(subjects: Subjects, tokenizer: CLIPTokenizer) -> None:
    """Say so on stderr where an own animal's name falls into many pieces."""
    for name in subjects.names:
        pieces = tokenizer.tokenize(name)
        if name not in subjects.breeds and len(pieces) > PIECES:
            say(
                f"warning: name: the tokenizer splits {name!r} into {len(pieces)} pieces "
                f"({' '.join(pieces)}); a shorter name is learned faster"
            )

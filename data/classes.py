"""What the photos of a dataset show, dogs or cats: the words for it, and the judge's classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.captions import CLASS_WORDS, captions

DOG_CLASSES = (*range(151, 269), 273, 274, 275)
"""ImageNet's breeds of dogs, and the dingo, dhole and African wild dog of Stanford Dogs."""
CAT_CLASSES = tuple(range(281, 286))
IMAGENET = {"dog": DOG_CLASSES, "puppy": DOG_CLASSES, "cat": CAT_CLASSES, "kitten": CAT_CLASSES}


@dataclass(frozen=True)
class PhotoClass:
    """What all photos of a dataset have in common."""

    word: str
    """An English noun, "cat"."""
    spanish: str
    imagenet: tuple[int, ...] = ()
    """The judge's classes of it among ImageNet's 1,000; empty where nobody told."""

    def captions(self, name: str, spanish: str, crop: str) -> dict[str, list[str]]:
        """All captions ("en", "es") of one kind of it: "a photo of a Bengal"."""
        return captions(name, spanish, crop, self.word, self.spanish)


def photo_class(word: str, spanish: str | None = None, imagenet: Sequence[int] = ()) -> PhotoClass:
    """The class that `word` says; dogs and cats need no more than that."""
    known = IMAGENET.get(word.casefold(), ())
    return PhotoClass(word, spanish or CLASS_WORDS.get(word, word), tuple(imagenet) or known)


DOGS = photo_class("dog")


def class_in_report(report: Mapping[str, Any]) -> PhotoClass:
    """The class of a prepared dataset, as its report.json tells it."""
    told = report["arguments"]
    return photo_class(told.get("class", "dog"), told.get("class_es"), told.get("imagenet", ()))


def holds_kinds(report: Mapping[str, Any]) -> bool:
    """Whether a dataset shows kinds ("a Bengal"), and not single animals ("rex cat")."""
    return "name" not in report["arguments"]


def judged_classes(text: str) -> tuple[int, ...]:
    """The judge's classes of the first word of `text` that says a class which is known here."""
    words = text.casefold().split()
    return next((IMAGENET[word] for word in words if word in IMAGENET), ())

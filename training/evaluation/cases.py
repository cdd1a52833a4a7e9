"""What an evaluation has a model draw: its breeds or its one animal, in both languages."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data.breeds import BREEDS, breeds_in
from data.captions import instance_captions, with_article
from data.classes import DOG_CLASSES, DOGS, PhotoClass, judged_classes, photo_class
from data.efficientnet import CLASS_OF_SYNSET
from models.manifest import Manifest
from training.config import ConfigError
from training.evaluation.photos import RealPhotos


@dataclass(frozen=True)
class Case:
    """One thing to draw."""

    name: str
    """A breed's English name, an animal's name, or the prompt itself."""
    prompt: str
    spanish: str | None = None
    """The same in Spanish."""
    imagenet_class: int | None = None
    """What the judge should see; None where the prompt names no breed that it knows, or several."""
    classes: tuple[int, ...] = ()
    """What it should see at least: the classes of dogs, or of cats; empty where nobody told."""


def kind_case(name: str, spanish: str, shown: PhotoClass, synset: str) -> Case:
    """One kind of a class, by its plain captions."""
    texts = shown.captions(name, spanish, "whole")
    wanted = CLASS_OF_SYNSET.get(synset)
    return Case(name, texts["en"][0], texts["es"][0], wanted, shown.imagenet)


def taught_cases(names: Sequence[str], photos: RealPhotos) -> list[Case]:
    """One case for each kind that a model was taught, as the dataset of it tells."""
    rows = {name: row for row, name in enumerate(photos.names)}
    return [
        kind_case(name, photos.spanish[rows[name]], photos.shown, photos.synsets[rows[name]])
        for name in names
    ]


def other_cases(names: Sequence[str]) -> list[Case]:
    """One case for each kind that the dataset does not have: breeds of dogs are known without."""
    breeds = {breed.name: breed for breed in BREEDS}
    return [
        kind_case(name, breeds[name].spanish, DOGS, breeds[name].synset)
        if name in breeds
        else Case(name, f"a photo of {with_article(name)}")
        for name in names
    ]


def prompt_cases(prompts: Sequence[str], class_prompt: str) -> list[Case]:
    """Prompts of one's own, judged by the breed or else the class that each names, or the model's
    `class_prompt`."""
    cases = []
    for prompt in prompts:
        named = breeds_in(prompt)
        wanted = CLASS_OF_SYNSET[named[0].synset] if len(named) == 1 else None
        classes = DOG_CLASSES if named else judged_classes(prompt) or judged_classes(class_prompt)
        cases.append(Case(prompt, prompt, None, wanted, classes))
    return cases


@dataclass(frozen=True)
class Animal:
    """The subject of a DreamBooth model."""

    name: str
    class_word: str

    @property
    def case(self) -> Case:
        """Its plain captions."""
        texts = instance_captions(self.name, self.class_word, "whole")
        classes = photo_class(self.class_word).imagenet
        return Case(self.name, texts["en"][0], texts["es"][0], classes=classes)


def animal_of(manifest: Manifest) -> Animal:
    """The one animal that a model was taught, from its instance prompt "a photo of rex dog".

    Raises ConfigError for a model that was taught none, or several.
    """
    prompts = manifest.instance_prompts
    parts = [re.fullmatch(r"a photo of (.+) (\S+)", prompt) for prompt in prompts]
    if len(parts) != 1 or parts[0] is None:
        raise ConfigError(
            f"model: {manifest.name!r} was taught no breed and no single animal "
            f"(instance_prompts {prompts}); say what to draw with --prompts"
        )
    return Animal(parts[0][1], parts[0][2])


LIVE_SUBJECT_PROMPTS = (
    "a {} in the jungle",
    "a {} in the snow",
    "a {} on the beach",
    "a {} on a cobblestone street",
    "a {} on top of pink fabric",
    "a {} on top of a wooden floor",
    "a {} with a city in the background",
    "a {} with a mountain in the background",
    "a {} with a blue house in the background",
    "a {} on top of a purple rug in a forest",
    "a {} wearing a red hat",
    "a {} wearing a santa hat",
    "a {} wearing a rainbow scarf",
    "a {} wearing a black top hat and a monocle",
    "a {} in a chef outfit",
    "a {} in a firefighter outfit",
    "a {} in a police outfit",
    "a {} wearing pink glasses",
    "a {} wearing a yellow shirt",
    "a {} in a purple wizard outfit",
    "a red {}",
    "a purple {}",
    "a shiny {}",
    "a wet {}",
    "a cube shaped {}",
)
"""DreamBooth's own 25 prompts for live subjects (Ruiz et al. 2023, appendix; the dataset's
`prompts_and_classes.txt`); {} is the identifier and the class noun."""
PICTURES_PER_PROMPT = 4
"""As in the paper (section 4.1)."""

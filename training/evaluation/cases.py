"""What an evaluation has a model draw: its breeds or its one animal, in both languages."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data.breeds import breeds_in, find_breeds
from data.captions import captions, instance_captions
from data.efficientnet import CLASS_OF_SYNSET
from models.manifest import Manifest
from training.config import ConfigError


@dataclass(frozen=True)
class Case:
    """One thing to draw."""

    name: str
    """A breed's English name, an animal's name, or the prompt itself."""
    prompt: str
    spanish: str | None = None
    """The same in Spanish."""
    imagenet_class: int | None = None
    """What the judge should see; None where the prompt names no breed, or several."""


def breed_cases(breeds: Sequence[str]) -> list[Case]:
    """One case a breed, by its plain captions."""
    return [
        Case(
            breed.name,
            captions(breed.name, breed.spanish, "whole")["en"][0],
            captions(breed.name, breed.spanish, "whole")["es"][0],
            CLASS_OF_SYNSET[breed.synset],
        )
        for breed in find_breeds(breeds)
    ]


def prompt_cases(prompts: Sequence[str]) -> list[Case]:
    """Prompts of one's own, judged by the breed that each names."""
    cases = []
    for prompt in prompts:
        named = breeds_in(prompt)
        wanted = CLASS_OF_SYNSET[named[0].synset] if len(named) == 1 else None
        cases.append(Case(prompt, prompt, None, wanted))
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
        return Case(self.name, texts["en"][0], texts["es"][0])


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

"""What is drawn: breeds and animals in two languages, prompts of one's own, the paper's."""

from pathlib import Path

import pytest

from tests.tiny import tiny_manifest
from training.config import ConfigError
from training.evaluation.cases import (
    LIVE_SUBJECT_PROMPTS,
    animal_of,
    other_cases,
    prompt_cases,
    taught_cases,
)
from training.evaluation.photos import read_photos

PROMPTS = Path(__file__).parents[4] / "shared" / "data" / "dreambooth_subjects"


def test_a_breed_is_asked_for_in_both_languages() -> None:
    case = other_cases(["German shepherd"])[0]
    assert case.prompt == "a photo of a German shepherd"
    assert case.spanish == "una foto de un pastor alemán"
    assert case.imagenet_class == 235 and 235 in case.classes


def test_kinds_of_a_dataset_are_asked_for_as_it_calls_them(cats: Path, listed_breeds: Path) -> None:
    siamese, cat = taught_cases(["Siamese", "cat"], read_photos(cats, 32))
    assert (siamese.prompt, siamese.spanish) == ("a photo of a Siamese", "una foto de un siamés")
    assert (cat.prompt, cat.spanish) == ("a photo of a cat", "una foto de un gato")
    assert cat.imagenet_class is None and cat.classes == tuple(range(281, 286))
    (pug,) = taught_cases(["pug"], read_photos(listed_breeds, 32))
    assert pug == other_cases(["pug"])[0]


def test_kinds_that_nothing_is_known_of_are_drawn_and_not_judged() -> None:
    (case,) = other_cases(["ocelot"])
    assert (case.prompt, case.classes) == ("a photo of an ocelot", ())


def test_a_prompt_is_judged_by_the_one_breed_that_it_names() -> None:
    prompts = ["un pug en la nieve", "a dog", "a pug and a beagle", "a cat", "two of them"]
    cases = prompt_cases(prompts, "a photo of a dog")
    assert [case.imagenet_class for case in cases] == [254, None, None, None, None]
    assert [207 in case.classes for case in cases] == [True, True, True, False, True]
    assert 283 in cases[3].classes


def test_an_animal_is_read_from_its_instance_prompt() -> None:
    animal = animal_of(tiny_manifest("m", instance_prompts=["a photo of good old rex dog"]))
    assert (animal.name, animal.class_word) == ("good old rex", "dog")
    assert animal.case.prompt == "a photo of good old rex dog"
    assert animal.case.spanish == "una foto de good old rex perro"


@pytest.mark.parametrize("prompts", [[], ["rex"], ["a photo of a dog", "a photo of rex dog"]])
def test_a_model_of_no_single_animal_is_refused(prompts: list[str]) -> None:
    with pytest.raises(ConfigError, match="no single animal"):
        animal_of(tiny_manifest("m", instance_prompts=prompts))


@pytest.mark.skipif(not PROMPTS.is_dir(), reason="needs the prompts in ../shared/data")
def test_the_paper_s_prompts_are_those_of_its_dataset() -> None:
    text = (PROMPTS / "prompts_and_classes.txt").read_text()
    live = text.partition("Live Subject Prompts")[2]
    published = [line.split("'")[1] for line in live.splitlines() if line.startswith("'")]
    assert [prompt.format("{0} {1}") for prompt in LIVE_SUBJECT_PROMPTS] == published

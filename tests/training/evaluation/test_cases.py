"""What is drawn: breeds and animals in two languages, prompts of one's own, the paper's."""

from pathlib import Path

import pytest

from tests.tiny import tiny_manifest
from training.config import ConfigError
from training.evaluation.cases import (
    LIVE_SUBJECT_PROMPTS,
    animal_of,
    breed_cases,
    prompt_cases,
)

PROMPTS = Path(__file__).parents[4] / "shared" / "data" / "dreambooth_subjects"


def test_a_breed_is_asked_for_in_both_languages() -> None:
    case = breed_cases(["German shepherd"])[0]
    assert case.prompt == "a photo of a German shepherd"
    assert case.spanish == "una foto de un pastor alemán"
    assert case.imagenet_class == 235


def test_a_prompt_is_judged_by_the_one_breed_that_it_names() -> None:
    cases = prompt_cases(["un pug en la nieve", "a dog", "a pug and a beagle"])
    assert [case.imagenet_class for case in cases] == [254, None, None]


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

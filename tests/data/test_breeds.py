"""Breeds by name, in both languages."""

import subprocess
import sys

import pytest

from data.breeds import BREEDS, UnknownBreed, breeds_in, find_breeds


def names(breeds):
    return [breed.name for breed in breeds]


def test_there_are_120_breeds_with_distinct_names_in_both_languages():
    assert len(BREEDS) == 120
    for key in ("synset", "folder", "name", "spanish"):
        assert len({getattr(breed, key).casefold() for breed in BREEDS}) == 120
    assert all(breed.folder.startswith(f"{breed.synset}-") for breed in BREEDS)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("golden retriever", "golden retriever"),
        ("GOLDEN_RETRIEVER", "golden retriever"),
        ("pastor alemán", "German shepherd"),
        ("pastor aleman", "German shepherd"),
        ("shih-tzu", "Shih Tzu"),
        ("carlino", "pug"),
        ("westie", "West Highland white terrier"),
        ("n02113023", "Pembroke Welsh corgi"),
        ("n02106550-Rottweiler", "Rottweiler"),
        ("Brabancon_griffon", "Brussels griffon"),
        ("bóxer", "boxer"),
        ("St. Bernard", "Saint Bernard"),
    ],
)
def test_a_breed_is_found_by_any_of_its_names(pattern, name):
    assert names(find_breeds([pattern])) == [name]


def test_every_breed_is_found_by_its_own_names():
    for breed in BREEDS:
        for key in (breed.name, breed.spanish, breed.synset, breed.folder, *breed.aliases):
            assert breed in find_breeds([key])


def test_wildcards_match_in_both_languages():
    assert len(find_breeds(["*schnauzer*"])) == 3
    assert names(find_breeds(["caniche*"])) == ["toy poodle", "miniature poodle", "standard poodle"]
    assert find_breeds(["*"]) == list(BREEDS)


def test_breeds_come_in_the_order_asked_for_and_once():
    assert names(find_breeds(["pug", "beagle", "carlino"])) == ["pug", "beagle"]


def test_an_unknown_breed_names_the_nearest():
    with pytest.raises(UnknownBreed, match=r"'goldn retreiver'.*golden retriever") as error:
        find_breeds(["pug", "goldn retreiver"])
    assert error.value.nearest[0] == "golden retriever"


@pytest.mark.parametrize("pattern", ["", "  ", "zzzzqqqq", "*no such*"])
def test_what_is_like_no_breed_is_unknown_all_the_same(pattern):
    with pytest.raises(UnknownBreed):
        find_breeds([pattern])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("un perro golden retriever en la playa", ["golden retriever"]),
        ("a photo of a pug, and a Saint-Bernard", ["pug", "Saint Bernard"]),
        ("dos pastores alemanes y un san bernardo", ["German shepherd", "Saint Bernard"]),
        ("three huskies in the snow", ["Siberian husky"]),
        ("a border collie", ["Border collie"]),
        ("a collie", ["rough collie"]),
        ("un CANICHE TOY", ["toy poodle"]),
        ("un bichon maltes", ["Maltese"]),
        ("a pug and a pug", ["pug"]),
        ("a dog in a cardigan", []),
        ("a pugnacious dog", []),
        ("", []),
    ],
)
def test_breeds_in_a_prompt(text, expected):
    assert names(breeds_in(text)) == expected


def test_a_shared_name_in_a_prompt_gives_all_its_breeds():
    assert {"toy poodle", "standard poodle"} < set(names(breeds_in("a poodle")))


def test_importing_the_breeds_stays_light():
    """The API imports them; torch and datasets would cost it seconds."""
    code = "import sys, data.breeds; print({'torch', 'datasets', 'PIL'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"

"""Where an animal is, by the colours around its box."""

import pytest
from PIL import Image

from data.crops import Box
from data.scenes import SCENES, scene_of

BOX = Box(60, 30, 140, 110)
GREEN, GREY, BLACK = (70, 140, 50), (128, 128, 128), (12, 10, 14)


def photo(around: tuple[int, int, int], below: tuple[int, int, int] | None = None) -> Image.Image:
    """A brown animal in BOX; `below` fills the lower half around it."""
    image = Image.new("RGB", (200, 140), around)
    image.paste(below or around, (0, 70, 200, 140))
    image.paste((150, 100, 60), (60, 30, 140, 110))
    return image


def test_green_below_the_animal_is_grass() -> None:
    assert scene_of(photo(GREY, GREEN), BOX) == "grass"


def test_green_above_the_animal_is_no_grass() -> None:
    assert scene_of(photo(GREEN, GREY), BOX) == ""


def test_black_all_around_is_a_dark_background() -> None:
    assert scene_of(photo(BLACK), BOX) == "dark"


def test_a_green_animal_is_no_scene() -> None:
    image = photo(GREY)
    image.paste(GREEN, (60, 30, 140, 110))
    assert scene_of(image, BOX) == ""


@pytest.mark.parametrize("box", [None, Box(0, 0, 200, 136)])
def test_without_a_box_or_anything_around_it_nothing_is_told(box: Box | None) -> None:
    assert scene_of(photo(GREEN), box) == ""


def test_every_scene_has_words_in_both_languages() -> None:
    assert all(len(words) == 2 and all(words) for words in SCENES.values())

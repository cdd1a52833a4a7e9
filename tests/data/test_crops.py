"""Geometry of the square crops."""

import random

import numpy as np
import pytest
from PIL import Image, ImageOps

from data.crops import (
    Box,
    bucket,
    centre_square,
    clip,
    cut,
    orient,
    square,
    square_around,
)


def random_boxes(count):
    generator = random.Random(0)
    for _ in range(count):
        size = (generator.randrange(20, 700), generator.randrange(20, 700))
        xs = sorted(generator.sample(range(size[0] + 1), 2))
        ys = sorted(generator.sample(range(size[1] + 1), 2))
        yield size, Box(xs[0], ys[0], xs[1], ys[1])


def test_a_square_around_any_box_is_square_and_inside_the_picture():
    for size, box in random_boxes(500):
        result = square_around(box, 1.1, size)
        assert result.width == result.height >= 1
        assert 0 <= result.left < result.right <= size[0]
        assert 0 <= result.top < result.bottom <= size[1]


def test_a_square_that_fits_holds_the_whole_box():
    for size, box in random_boxes(500):
        if 1.1 * max(box.width, box.height) <= min(size) - 1:
            result = square_around(box, 1.1, size)
            assert result.left <= box.left and box.right <= result.right
            assert result.top <= box.top and box.bottom <= result.bottom


def test_a_square_in_the_open_is_centred_with_its_margin():
    assert square_around(Box(100, 100, 140, 120), 1.5, (400, 400)) == (90, 80, 150, 140)


def test_a_square_at_an_edge_moves_inside_before_it_shrinks():
    assert square_around(Box(0, 50, 40, 90), 1.5, (300, 200)) == (0, 40, 60, 100)


def test_a_square_too_large_shrinks_to_the_short_side():
    assert square_around(Box(50, 10, 290, 100), 1.1, (300, 120)) == (110, 0, 230, 120)


def test_a_square_has_at_least_one_pixel():
    assert square((5, 5), 0.0, (10, 10)).width == 1


def test_the_centre_square_is_the_largest_in_the_middle():
    assert centre_square((300, 100)) == (100, 0, 200, 100)
    assert centre_square((100, 300)) == (0, 100, 100, 200)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((600, 600), (64, 64)),
        ((4000, 3000), (72, 56)),
        ((3000, 4000), (56, 72)),
        ((1600, 900), (80, 48)),
        ((300, 900), (48, 80)),
    ],
)
def test_a_bucket_is_the_shape_nearest_to_the_photos_and_no_larger_than_the_square(size, shape):
    box, made = bucket(size, 64)
    assert made == shape
    assert made[0] * made[1] <= 64 * 64
    assert box.width / box.height == pytest.approx(shape[0] / shape[1])
    assert box.left >= 0 and box.right <= size[0] and box.top >= 0 and box.bottom <= size[1]
    assert box.width == pytest.approx(size[0]) or box.height == pytest.approx(size[1])
    assert box.left == pytest.approx(size[0] - box.right)


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((10, 10, 50, 50), (10, 10, 50, 50)),
        ((-10, 10, 500, 50), (0, 10, 100, 50)),
        ((200, 10, 300, 50), None),
        ((50, 50, 10, 10), None),
        ((20, 20, 20, 40), None),
        ((float("nan"), 0, 50, 50), None),
    ],
)
def test_boxes_are_clipped_to_the_picture(box, inside):
    assert clip(Box(*box), (100, 80)) == inside


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_turns_with_its_picture(orientation):
    """Annotations are in stored pixels: an unturned box on a turned picture misses the dog."""
    image = Image.new("L", (50, 30))
    image.paste(255, (5, 10, 25, 17))
    exif = image.getexif()
    exif[0x0112] = orientation
    upright = ImageOps.exif_transpose(image)
    assert orient(Box(5, 10, 25, 17), image.size, orientation) == upright.getbbox()


def test_a_cut_shows_the_square_at_the_resolution():
    image = Image.new("RGB", (100, 60), "white")
    image.paste("red", (20, 10, 60, 50))
    picture = cut(image, Box(20, 10, 60, 50), 16)
    assert picture.size == (16, 16)
    assert np.all(np.asarray(picture)[4:-4, 4:-4] == (255, 0, 0))


def test_a_cut_is_antialiased():
    stripes = np.tile(np.array([0, 255], np.uint8), (128, 64))
    picture = np.asarray(cut(Image.fromarray(stripes).convert("RGB"), Box(0, 0, 128, 128), 16))
    assert np.all(abs(picture[2:-2, 2:-2].astype(int) - 127) < 8)

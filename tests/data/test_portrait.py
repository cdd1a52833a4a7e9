"""The head finder: its maths on made-up maps, its network on drawn dogs."""

import numpy as np
import pytest
import torch

from data.crops import Box
from data.efficientnet import load_efficientnet
from data.portrait import HeadFinder, activation_maps, head_square

REGION = Box(100, 50, 190, 140)
SIZE = (400, 300)


@pytest.fixture(scope="module")
def finder():
    return HeadFinder()


def test_the_map_is_the_mean_over_the_top_classes():
    features = torch.zeros(1, 4, 2, 2)
    for channel in range(4):  # each channel lights one cell
        features[0, channel, channel // 2, channel % 2] = 1.0
    weight, bias = torch.eye(4), torch.tensor([0.0, 5.0, 5.0, 5.0])
    maps = activation_maps(features, weight, bias)
    assert torch.allclose(maps, torch.tensor([[[0.0, 1 / 3], [1 / 3, 1 / 3]]]))


def test_a_single_spot_gives_the_smallest_square_around_it():
    activation = np.zeros((9, 9))
    activation[2, 6] = 1.0
    result = head_square(activation, REGION, SIZE)
    assert result.width == round(0.35 * 90)
    assert (result.left + result.right) / 2 == pytest.approx(100 + 65, abs=1)
    assert (result.top + result.bottom) / 2 == pytest.approx(50 + 25, abs=1)


def test_a_map_without_activation_gives_the_largest_square_in_the_middle():
    result = head_square(-np.ones((9, 9)), REGION, SIZE)
    assert result == (104, 54, 185, 135)


def test_the_side_is_4_2_standard_deviations():
    activation = np.zeros((9, 9))
    activation[4, 2] = activation[4, 6] = activation[2, 4] = activation[6, 4] = 1.0
    deviation = (0.5 * (2 / 9) ** 2) ** 0.5
    assert head_square(activation, REGION, SIZE).width == round(4.2 * deviation * 90)


def test_the_square_stays_inside_the_picture():
    activation = np.zeros((9, 9))
    activation[0, 0] = 1.0
    result = head_square(activation, Box(0, 0, 300, 300), SIZE)
    assert result.left == result.top == 0


def test_the_folded_network_gives_the_published_ones_features(finder):
    published = load_efficientnet("lite0")
    pixels = torch.randn(1, 3, 288, 288, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = published.extract_features(pixels)
        actual = finder._network.extract_features(pixels)
    assert torch.allclose(actual, expected, atol=1e-3)


def test_squares_do_not_depend_on_company(finder, dog):
    images = [dog((200, 160), seed) for seed in range(3)]
    regions = [Box(20, 0, 180, 160)] * 3
    together = finder.find(images, regions)
    assert together == [finder.find([i], [r])[0] for i, r in zip(images, regions, strict=True)]
    assert all(square.width == square.height for square in together)


def test_without_classes_any_thing_is_looked_for():
    assert HeadFinder(())._classes == list(range(1000))

"""What a model's figures come to beside their ceilings."""

from typing import Any

import pytest

from training.evaluation.breeds import beside_ceilings


def sets_with_floor(mean: float, std: float) -> dict[str, dict[str, Any]]:
    return {
        "real": {"kid": {"mean": mean, "std": std}, "top5": 0.8},
        "drawn": {"kid": {"mean": 0.1, "std": 0.0}, "top5": 0.5},
        "reconstructed": {"top5": 0.6},
        "spanish": {"top5": 0.4},
    }


@pytest.mark.parametrize(("mean", "std"), [(0.02, 0.01), (-0.01, 0.02)])
def test_the_floor_is_the_real_photos_own_distance_or_its_deviation(
    mean: float, std: float
) -> None:
    beside = beside_ceilings(sets_with_floor(mean, std))
    assert beside["kid_over_floor"] == pytest.approx(5.0)
    assert beside["top5_kept_by_autoencoder"] == pytest.approx(0.75)
    assert beside["spanish_minus_english_top5"] == pytest.approx(-0.1)


def test_a_floor_of_rounding_gives_no_ratio() -> None:
    """Of eight photos every subset is all of them; the ratio was 1e15, another one each time."""
    assert beside_ceilings(sets_with_floor(-1e-17, 3e-17))["kid_over_floor"] is None

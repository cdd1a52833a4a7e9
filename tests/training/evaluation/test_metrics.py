"""Each metric against a value that is known without it."""

import math

import pytest
import torch

from training.evaluation.metrics import (
    class_drift,
    class_rate,
    copying,
    diversity,
    kid,
    nearest_mean,
    pixel_vectors,
    precision_recall_density_coverage,
    prior_preservation,
    similarity_across,
    subject_similarity,
    top_k_rate,
)


def normal(count: int, width: int, seed: int, mean: float = 0.0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) + mean


def test_top_k_counts_the_pictures_whose_class_is_among_the_k_highest() -> None:
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    assert top_k_rate(probabilities, torch.tensor([0, 0]), 1) == 0.5
    assert top_k_rate(probabilities, 1, 1) == 0.0
    assert top_k_rate(probabilities, 1, 2) == 1.0


def test_class_rate_looks_at_the_highest_only() -> None:
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3]])
    assert class_rate(probabilities, [0, 2]) == pytest.approx(2 / 3)


def test_kid_of_one_distribution_is_about_nothing_and_can_be_below() -> None:
    found = kid(normal(400, 8, seed=0), normal(400, 8, seed=1), subset_size=400)
    assert abs(found.mean) < 0.02
    values = [kid(normal(50, 8, s), normal(50, 8, s + 99), subsets=1).mean for s in range(20)]
    assert min(values) < 0 < max(values)


def test_kid_of_shifted_gaussians_is_the_closed_form() -> None:
    """In one dimension E k(x,y) = E (xy + 1)^3 = m3 n3 + 3 m2 n2 + 3 m n + 1, of raw moments."""
    shift = 0.5
    raw = {0.0: (0.0, 1.0, 0.0), shift: (shift, 1 + shift**2, shift**3 + 3 * shift)}

    def kernel(a: float, b: float) -> float:
        return (
            sum(factor * x * y for factor, x, y in zip((3, 3, 1), raw[a], raw[b], strict=True)) + 1
        )

    expected = kernel(0.0, 0.0) + kernel(shift, shift) - 2 * kernel(0.0, shift)
    found = kid(normal(4000, 1, 0), normal(4000, 1, 1, shift), subsets=20, subset_size=2000).mean
    assert found == pytest.approx(expected, rel=0.1)


def test_the_same_seed_draws_the_same_subsets() -> None:
    a, b = normal(60, 4, 0), normal(60, 4, 1, 0.2)
    assert kid(a, b, seed=3, subset_size=30) == kid(a, b, seed=3, subset_size=30)
    assert kid(a, b, seed=3, subset_size=30) != kid(a, b, seed=4, subset_size=30)


def test_the_same_pictures_have_precision_and_recall_of_one() -> None:
    features = normal(40, 4, 0)
    found = precision_recall_density_coverage(features, features)
    assert found["precision"] == found["recall"] == found["coverage"] == 1.0


def test_pictures_from_elsewhere_have_precision_and_recall_of_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = precision_recall_density_coverage(normal(40, 4, 0, 100.0), normal(40, 4, 1))
    assert set(found.values()) == {0.0}
    assert capsys.readouterr().out == ""


def test_a_single_picture_drawn_again_and_again_is_precise_but_covers_nothing() -> None:
    real = normal(60, 4, 0)
    generated = real[:1] + 1e-3 * normal(20, 4, 1)
    found = precision_recall_density_coverage(generated, real)
    assert found["precision"] == 1.0
    assert found["coverage"] < 0.3
    assert found["recall"] < 0.1


def test_orthogonal_pictures_are_unlike_and_equal_ones_are_not_diverse() -> None:
    axes = torch.eye(3)
    assert diversity(axes) == pytest.approx(1.0)
    assert diversity(axes[:1].repeat(4, 1)) == pytest.approx(0.0)


def test_the_ceiling_of_similarity_pairs_no_photo_with_itself() -> None:
    crops = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 1.0]])
    found = similarity_across(crops, crops, torch.tensor([0, 0, 1]))
    assert found == pytest.approx((1 / 2**0.5 + 1.1 / (1.01 * 2) ** 0.5) / 2)
    with pytest.raises(ValueError, match="two photos"):
        similarity_across(crops, crops, torch.zeros(3))


def test_similarity_is_the_mean_over_all_pairs_and_heeds_no_length() -> None:
    a, b = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[3.0, 0.0]])
    assert subject_similarity(a, b) == pytest.approx(0.5)
    assert prior_preservation(b, a) == pytest.approx(0.5)


def test_drift_pairs_the_pictures_of_a_seed() -> None:
    before = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert class_drift(before, 5 * before) == pytest.approx(0.0)
    assert class_drift(before, before.flip(0)) == pytest.approx(1.0)
    angle = math.radians(60)
    turned = torch.tensor([[math.cos(angle), math.sin(angle)], [0.0, 1.0]])
    assert class_drift(before, turned) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="differ"):
        class_drift(before, before[:1])


def photos(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 64, 64), generator=generator, dtype=torch.uint8)


def test_a_copied_and_mirrored_photo_is_found_and_a_new_one_is_no_copy() -> None:
    training, new = photos(12, 0), photos(3, 1)
    drawn = torch.cat([training[7:8].flip(-1), training[2:3], new])
    views = torch.stack([pixel_vectors(drawn), pixel_vectors(drawn.flip(-1))])
    found = copying(views, pixel_vectors(training))
    assert found.nearest[:2].tolist() == [7, 2]
    assert (found.ratios[:2] < 0.05).all()
    assert (found.ratios[2:] > 0.8).all()
    assert found.rate == pytest.approx(0.4)


def test_the_ratio_is_that_of_the_two_nearest_photos() -> None:
    training = torch.tensor([[0.0], [4.0], [100.0]])
    found = copying(torch.tensor([[[1.0], [2.0]]]), training)
    assert found.ratios.tolist() == pytest.approx([1 / 3, 1.0])
    assert found.nearest[0] == 0


def test_a_second_crop_of_the_nearest_photo_is_not_the_second_nearest() -> None:
    training = torch.tensor([[0.0], [2.0], [100.0]])
    drawn = torch.tensor([[[1.5]]])
    assert copying(drawn, training).ratios.tolist() == pytest.approx([1 / 3])
    found = copying(drawn, training, torch.tensor([5, 5, 9]))
    assert found.ratios.tolist() == pytest.approx([0.5 / 98.5])
    assert found.nearest.tolist() == [1]
    assert found.rate == 1.0


def test_a_photo_that_is_there_twice_is_still_copied() -> None:
    found = copying(torch.zeros(1, 1, 2), torch.zeros(2, 2))
    assert found.rate == 1.0


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda: kid(normal(1, 4, 0), normal(9, 4, 0)), "generated: 1 pictures"),
        (lambda: diversity(normal(1, 4, 0)), "features: 1 pictures"),
        (lambda: copying(torch.zeros(1, 1, 2), torch.zeros(1, 2)), "training: 1 photos"),
        (
            lambda: precision_recall_density_coverage(normal(9, 4, 0), normal(6, 4, 0)),
            "real: 6 pictures",
        ),
    ],
)
def test_too_few_pictures_are_refused_by_name(metric, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        metric()


def test_each_picture_is_nearest_to_the_mean_of_one_group() -> None:
    groups = [torch.tensor([[2.0, 0.0], [2.0, 0.2]]), torch.tensor([[0.0, 1.0], [0.2, 1.0]])]
    features = torch.tensor([[9.0, 1.0], [0.1, 0.2], [1.0, 0.0]])
    assert nearest_mean(features, groups).tolist() == [0, 1, 0]

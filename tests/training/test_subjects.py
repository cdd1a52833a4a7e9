from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.pictures import mirror_correlation
from training.subjects import read_subjects


def test_whole_animals_take_their_share_of_each_breeds_draws(two_breeds: Path) -> None:
    boxes = read_subjects(two_breeds)
    assert boxes.whole_rows.all()
    assert boxes.draw_weights(0.0, 0.05).tolist() == pytest.approx([1 / 6] * 12), "no heads"
    assert boxes.draw_weights(0.0, None).tolist() == [1.0] * 12

    whole = torch.arange(12) % 3 == 0
    mixed = replace(boxes, whole_rows=whole)
    weights = mixed.draw_weights(6.0, 0.05)
    correlation = mirror_correlation(mixed.pictures)
    for subject in (0, 1):
        for rows, share in ((whole, 0.05), (~whole, 0.95)):
            rows = rows & (mixed.subject_rows == subject)
            assert weights[rows].sum() == pytest.approx(share)
            assert weights[rows].argmax() == correlation[rows].argmax()

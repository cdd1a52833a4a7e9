from pathlib import Path

import pytest
import torch
from PIL import Image

from training.labs.attention import (
    TOLERANCE,
    MultiHead,
    attend,
    differences,
    main,
    rotary,
    similarity,
    sinusoidal,
)


def test_every_piece_is_pytorch_s() -> None:
    found = differences()
    assert found.keys() == {"scaled dot-product", "multi-head", "cross"}
    assert max(found.values()) < TOLERANCE


def test_a_query_that_suits_one_key_gets_its_value() -> None:
    keys = 50 * torch.eye(3, 4)
    values = torch.tensor([[1.0], [2.0], [3.0]])
    mixed, weights = attend(keys[1:2], keys, values)
    assert mixed.item() == pytest.approx(2.0)
    assert weights.sum(-1).item() == pytest.approx(1.0)


def test_cross_attention_has_weights_of_each_head_over_the_context() -> None:
    _, weights = MultiHead(8, 2, 6)(torch.randn(3, 5, 8), torch.randn(3, 4, 6))
    assert weights.shape == (3, 2, 5, 4)


def test_sinusoidal_codes_tell_the_distance_only() -> None:
    near = similarity(sinusoidal(20, 16))
    for distance in range(20):
        along = near.diagonal(distance)
        assert along.tolist() == pytest.approx([along[0].item()] * len(along), abs=1e-5)


def test_rotary_scores_tell_contents_and_distance() -> None:
    q, k = torch.randn(2, 1, 16, generator=torch.Generator().manual_seed(0))
    scores = rotary(q.expand(12, -1)) @ rotary(k.expand(12, -1)).mT
    assert scores[2, 5].item() == pytest.approx(scores[7, 10].item(), abs=1e-4)
    assert scores[2, 5].item() != pytest.approx(scores[2, 6].item(), abs=1e-3)
    assert rotary(q.expand(12, -1)).norm(dim=1).tolist() == pytest.approx([q.norm().item()] * 12)


def test_the_command_prints_the_checks_and_draws_the_positions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(tmp_path / "positions.png")]) == 0
    assert capsys.readouterr().out.count("from PyTorch's") == 3
    assert Image.open(tmp_path / "positions.png").width > 500

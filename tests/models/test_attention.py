import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.attention import MANY_SCORES, ManyTokens, attend, speed_up
from tests.models.shapes import small_unet


def heads(tokens: int, size: int = 40, batch: int = 1, seed: int = 0) -> Tensor:
    """`[batch, 8, tokens, size]` in bf16, laid out as projections give them."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(batch, tokens, 8, size, generator=generator)
    return drawn.bfloat16().transpose(1, 2)


def exact(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query.double(), key.double(), value.double())


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("batch", "queries", "keys", "size"),
    [(1, 1000, 1000, 40), (3, 300, 77, 80), (1, 70, 20, 16), (1, 5, 3, 1), (1, 256, 256, 160)],
)
def test_it_is_attention_to_the_rounding_of_bf16(
    batch: int, queries: int, keys: int, size: int
) -> None:
    """Also for shapes that no chunk divides."""
    query = heads(queries, size, batch)
    key, value = heads(keys, size, batch, seed=1), heads(keys, size, batch, seed=2)
    expected = exact(query, key, value)
    assert attend(query, key, value).shape == query.shape
    assert error(attend(query, key, value), expected) < 0.006


def test_large_scores_lose_no_more_than_small_ones() -> None:
    """Rounded to bf16 as they are, scores of 20 would be off by 0.06 and the weights by 6 %."""
    query, key, value = 2 * heads(512), 2 * heads(512, seed=1), heads(512, seed=2)
    expected = exact(query, key, value)
    assert error(attend(query, key, value), expected) < 0.008
    rounded = ((query * 40**-0.5) @ key.mT).softmax(-1) @ value
    assert error(rounded, expected) > 0.01


def test_scores_that_are_out_of_all_bounds_are_left_to_torch() -> None:
    query, key, value = heads(64), heads(64, seed=1), heads(64, seed=2)
    key[:, :, 33] = 200 * query[:, :, 5]  # no key that is sampled
    expected = F.scaled_dot_product_attention(query, key, value)
    assert expected.isfinite().all()
    assert torch.equal(attend(query, key, value), expected)


@torch.inference_mode()
def test_a_unet_draws_the_same_with_it() -> None:
    model = small_unet(torch.bfloat16)
    inputs = (
        torch.randn(2, 4, 32, 32).bfloat16(),
        torch.tensor(500),
        torch.randn(2, 7, 32).bfloat16(),
    )
    expected = small_unet(torch.float32)(inputs[0].float(), inputs[1], inputs[2].float()).sample
    plain = model(*inputs).sample
    speed_up(model)
    assert MANY_SCORES < 2 * 4 * 1024 * 1024
    found = model(*inputs).sample
    assert not torch.equal(found, plain)
    assert error(found, expected.double()) < 1.2 * error(plain, expected.double())


def test_only_bf16_on_a_cpu_is_given_another_attention() -> None:
    for dtype, chosen in ((torch.float32, False), (torch.bfloat16, True)):
        model = small_unet(dtype)
        speed_up(model)
        kinds = {type(processor) for processor in model.attn_processors.values()}
        assert (ManyTokens in kinds) == chosen

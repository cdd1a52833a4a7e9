"""Attention of many tokens on a CPU in bf16, where torch's own takes a third of the time."""

import math
from collections.abc import Iterator

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn
from torch.nn import functional as F

from models.pipeline import in_bf16_on_cpu

SAMPLED = 32
"""One key of so many tells how large a query's scores become."""
MANY_SCORES = 1 << 20
"""Below, what stands around the products takes longer than they do."""
HEADS_AT_ONCE, QUERIES_AT_LEAST = 16, 64
SCORES_AT_ONCE = 1 << 24
"""32 MB, of which most stay in a usual cache; products of fewer queries are slower than that."""


def speed_up(unet: nn.Module) -> None:
    """Have the transformer blocks of `unet` take `attend` where it pays: on a CPU in bf16."""
    if not in_bf16_on_cpu(unet):
        return
    for block in unet.modules():
        if isinstance(block, BasicTransformerBlock):
            for attention in (block.attn1, block.attn2):
                if attention is not None and _is_plain(attention):
                    attention.set_processor(ManyTokens())


def _is_plain(attention: Attention) -> bool:
    """Whether it is a Stable Diffusion's: projections and nothing else."""
    further = ("spatial_norm", "group_norm", "norm_q", "norm_k", "norm_cross")
    return (
        not any(getattr(attention, name) for name in further)
        and not attention.residual_connection
        and attention.rescale_output_factor == 1
        and type(attention.processor) is AttnProcessor2_0
    )


class ManyTokens(AttnProcessor2_0):  # type: ignore[misc]
    """diffusers' attention, with `attend` for many scores."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        scores = len(context) * attn.heads * hidden_states.shape[1] * context.shape[1]
        if attention_mask is not None or scores < MANY_SCORES:
            plain: Tensor = super().__call__(
                attn, hidden_states, encoder_hidden_states, attention_mask, temb
            )
            return plain
        query, key, value = (
            projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for projected in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        output: Tensor = attn.to_out[0](attend(query, key, value).transpose(1, 2).flatten(2))
        return output


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v of `[B, H, L, D]`, with the rounding of bf16.

    Torch's flash attention multiplies small blocks, far below what the CPU can do; here oneDNN
    multiplies large ones, and between them stands a single pass. For that, a further column of the
    products subtracts from a query's scores the greatest one among a few keys, so that those that
    count are near zero, where bf16 is fine, and e^x can do without a maximum. A column of ones
    behind the values sums the weights up.
    """
    batch, heads, length, size = query.shape
    columns = size + 16 - size % 16  # room for a further one, in whole registers

    def widened(tensor: Tensor, last: float) -> Tensor:
        """`[B * H, L, columns]`: with `last` behind its columns, and zeros."""
        wide = tensor.new_zeros(batch, heads, tensor.shape[2], columns)
        wide[..., :size], wide[..., size] = tensor, last
        return wide.flatten(0, 1)

    queries = widened(query * size**-0.5, 0)
    keys, values = widened(key, 1).mT, widened(value, 1)
    queries[..., size] = -(queries @ keys[..., ::SAMPLED]).amax(-1)
    weighted: Tensor = torch.empty_like(queries)
    many = max(QUERIES_AT_LEAST, SCORES_AT_ONCE // (HEADS_AT_ONCE * key.shape[2]))
    for some in _chunks(len(queries), HEADS_AT_ONCE):
        for rows in _chunks(length, many):
            weights = (queries[some, rows] @ keys[some]).exp_()
            weighted[some, rows] = weights @ values[some]
    sums = weighted[..., size, None]
    if not torch.isfinite(sums).all():  # a score more than 88 above all of the few, or no number
        return F.scaled_dot_product_attention(query, key, value)
    return (weighted[..., :size] / sums).view(batch, heads, length, size)


def _chunks(length: int, at_most: int) -> Iterator[slice]:
    """About equal parts of `length`."""
    step = math.ceil(length / math.ceil(length / at_most))
    for start in range(0, length, step):
        yield slice(start, start + step)

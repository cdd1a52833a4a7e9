"""Attention and positions in a page, checked against PyTorch: `python -m training.labs.attention`.

Shapes: B rows, H heads, N queries, M keys, D channels.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

TOLERANCE = 1e-5
BASE = 10_000.0
"""The longest wave of a position code is about `BASE` times 2 pi tokens."""


def attend(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """softmax(q k^T / sqrt(D)) v and the weights (Vaswani et al. 2017, arXiv 1706.03762, eq. 1).

    `query` `[..., N, D]`, `key` and `value` `[..., M, D]`: the mean of the values, weighed for each
    query by how well each key suits it. Without sqrt(D) the scores grow with D and the softmax
    becomes a maximum.
    """
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    weights = scores.softmax(-1)  # [..., N, M], rows of sum 1
    return weights @ value, weights


class MultiHead(nn.Module):
    """H attentions beside each other, each on D / H channels; with `context`, cross attention.

    The queries come from `x`, keys and values from `context` (a U-Net's pixels ask, the words of
    the prompt answer) or, in self attention, from `x` too.
    """

    def __init__(self, channels: int, heads: int, context_channels: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(context_channels or channels, channels)
        self.to_v = nn.Linear(context_channels or channels, channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`[B, N, D]` and the weights `[B, H, N, M]`."""
        source = x if context is None else context
        q, k, v = (
            layer(given).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, H, N or M, D / H]
            for layer, given in ((self.to_q, x), (self.to_k, source), (self.to_v, source))
        )
        mixed, weights = attend(q, k, v)
        return self.to_out(mixed.transpose(1, 2).flatten(-2)), weights


def sinusoidal(tokens: int, channels: int) -> Tensor:
    """`[tokens, channels]`: sines and cosines of falling frequency (arXiv 1706.03762, 3.5).

    Added to the embeddings. p(n) . p(m) depends on n - m only.
    """
    angles = torch.arange(tokens)[:, None] * _frequencies(channels)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


def rotary(x: Tensor) -> Tensor:
    """Turn each pair of channels of `[..., N, D]` by an angle that grows with its place.

    RoPE (Su et al. 2021, arXiv 2104.09864, eq. 34), for queries and keys: nothing is added, yet
    q(n) . k(m) depends on the contents and on n - m.
    """
    angles = torch.arange(x.shape[-2])[:, None] * _frequencies(x.shape[-1])
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = (even * angles.cos() - odd * angles.sin(), even * angles.sin() + odd * angles.cos())
    return torch.stack(turned, -1).flatten(-2)


def _frequencies(channels: int) -> Tensor:
    return BASE ** (-torch.arange(0, channels, 2) / channels)


def similarity(positions: Tensor) -> Tensor:
    """`[N, N]`: the cosine of each pair of the rows of `positions` `[N, D]`."""
    unit = nn.functional.normalize(positions.float(), dim=-1)
    return unit @ unit.mT


def rotary_scores(tokens: int, channels: int) -> Tensor:
    """`[tokens, tokens]`: how well one and the same content suits itself at two places."""
    turned = rotary(torch.ones(tokens, channels))
    return turned @ turned.mT / channels


@torch.inference_mode()
def differences() -> dict[str, float]:
    """The largest difference of each piece above to PyTorch's own, on random numbers."""
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 9, 16), torch.randn(2, 4, 7, 16), torch.randn(2, 4, 7, 16)
    found = {
        "scaled dot-product": attend(q, k, v)[0]
        - nn.functional.scaled_dot_product_attention(q, k, v)
    }
    x, context = torch.randn(2, 9, 32), torch.randn(2, 7, 20)
    for name, given, width in (("multi-head", None, None), ("cross", context, 20)):
        ours = MultiHead(32, 4, width)
        theirs = nn.MultiheadAttention(32, 4, kdim=width, vdim=width, batch_first=True)
        _copy(ours, theirs)
        source = x if given is None else given
        found[name] = ours(x, given)[0] - theirs(x, source, source, need_weights=False)[0]
    return {name: float(difference.abs().max()) for name, difference in found.items()}


def _copy(ours: MultiHead, theirs: nn.MultiheadAttention) -> None:
    """Give PyTorch's module our weights."""
    layers = (ours.to_q, ours.to_k, ours.to_v)
    if theirs.in_proj_weight is not None:
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in layers]))
    else:
        for name, layer in zip("qkv", layers, strict=True):
            getattr(theirs, f"{name}_proj_weight").copy_(layer.weight)
    theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in layers]))
    theirs.out_proj.load_state_dict(ours.to_out.state_dict())


def draw_positions(maps: dict[str, Tensor], file: Path) -> None:
    """Each of `maps` `[N, M]` with its name, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(maps), 3.4), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, len(maps)), maps.items(), strict=True):
        figure.colorbar(axes.imshow(values.numpy(), aspect="auto"), ax=axes, shrink=0.8)
        axes.set_title(name, fontsize=10)
    figure.savefig(file, dpi=80)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each check and draw the positions; 1 where a check fails."""
    parser = argparse.ArgumentParser(prog="python -m training.labs.attention", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("positions.png"))
    options = parser.parse_args(arguments)
    found = differences()
    for name, difference in found.items():
        print(f"{name}: {difference:.1e} from PyTorch's")
    code = sinusoidal(64, 64)
    maps = {
        "sinusoidal: 64 places, 64 channels": code,
        "sinusoidal: place by place": similarity(code),
        "rotary: place by place": rotary_scores(64, 64),
    }
    draw_positions(maps, options.output)
    print(options.output)
    return int(max(found.values()) > TOLERANCE)


if __name__ == "__main__":
    raise SystemExit(main())

"""Records where in a picture the U-Net looks for each word: cross-attention maps of one sample."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from models.overlay import MAX_WORDS
from models.requests import WordHeat


class HeatMaps:
    """The mean over steps, layers and heads of one sample's attention to each token.

    Every layer's map is scaled to the size of the latents first (DAAM, Tang et al. 2022,
    arXiv 2210.04885, eq. 5, with the mean in place of the sum).
    """

    def __init__(self, height: int, width: int) -> None:
        self._size = (height, width)
        self._sum: Tensor | float = 0.0
        self._count = 0

    def add(self, weights: Tensor) -> None:
        """One layer at one step: `[pixels, T]`, for each pixel its weights over the tokens."""
        height, width = self._size
        shrunk = math.sqrt(height * width / len(weights))
        layer = weights.float().mT.view(1, -1, round(height / shrunk), round(width / shrunk))
        scaled = F.interpolate(layer, self._size, mode="bilinear")[0]
        self._sum = self._sum + scaled
        self._count += 1

    def of_words(self, words: Sequence[tuple[str, Sequence[int]]]) -> tuple[WordHeat, ...]:
        """The map of each word: what its tokens, at these positions, got together."""
        assert isinstance(self._sum, Tensor), "no step was recorded"
        mean = (self._sum / self._count).cpu()
        return tuple(
            WordHeat(word, Image.fromarray(mean[list(positions)].sum(0).numpy()))
            for word, positions in words[:MAX_WORDS]
        )


class RecordingAttention:
    """A diffusers attention processor that hands on to `processor` and keeps the weights.

    The output stays that of `processor`, so a picture does not change by being watched.
    """

    def __init__(self, processor: Any, kept: list[Tensor]) -> None:
        self._processor = processor
        self._kept = kept

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        # All rows go through the layers, for the hooks of the adapters count them.
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        weights = attn.get_attention_scores(query, key, attention_mask)  # [B * heads, pixels, T]
        self._kept.append(weights.unflatten(0, (len(hidden_states), -1)).mean(1))
        output: Tensor = self._processor(
            attn, hidden_states, encoder_hidden_states, attention_mask, **options
        )
        return output


@contextmanager
def watched(unet: UNet2DConditionModel, watchers: Sequence[HeatMaps | None]) -> Iterator[None]:
    """Within the block, row i of a U-Net call adds its cross attention to `watchers[i]`.

    The processors are put back afterwards; of a call that failed nothing is added.
    """
    if not any(watchers):
        yield
        return
    before = dict(unet.attn_processors)
    kept: list[Tensor] = []
    unet.set_attn_processor(
        {
            name: RecordingAttention(processor, kept) if ".attn2." in name else processor
            for name, processor in before.items()
        }
    )
    try:
        yield
    finally:
        unet.set_attn_processor(before)
    for weights in kept:
        for row, watcher in zip(weights, watchers, strict=True):
            if watcher is not None:
                watcher.add(row)

"""The two rows of guidance are one until the prompt comes in: what lies before is computed once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers import UNet2DConditionModel
from torch import Tensor, nn


class TwinRows:
    """Lets a U-Net's layers ahead of its first cross attention take every other row of a batch.

    Latents and timestep of such rows are the same, so these layers' outputs are too: that is the
    first self attention with its many tokens, and all blocks that have no attention before it.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self._on = False
        for layer in layers_before_prompt(unet):
            layer.register_forward_pre_hook(self._halve)
            layer.register_forward_hook(self._double)

    @contextmanager
    def use(self, twins: bool) -> Iterator[None]:
        """Within the block, rows 2i and 2i + 1 of every batch are `twins`."""
        self._on = twins
        try:
            yield
        finally:
            self._on = False

    def _halve(self, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not self._on:
            return None
        return tuple(each[::2] if isinstance(each, Tensor) else each for each in inputs)

    def _double(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if not self._on:
            return None
        last = output.movedim(1, -1)  # as `channels_last` lies in memory
        return last[:, None].expand(-1, 2, *last.shape[1:]).flatten(0, 1).movedim(-1, 1)


def layers_before_prompt(unet: UNet2DConditionModel) -> Iterator[nn.Module]:
    """The larger layers whose output no prompt has reached, in the order of their use."""
    yield unet.conv_in
    for block in unet.down_blocks:
        if not hasattr(block, "attentions"):
            yield from block.resnets
            yield from block.downsamplers or ()
            continue
        yield block.resnets[0]
        transformer = block.attentions[0]
        yield transformer.proj_in
        if not transformer.transformer_blocks[0].only_cross_attention:
            yield transformer.transformer_blocks[0].attn1
        return

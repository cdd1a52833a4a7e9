"""The attention kernel of training on a CPU, chosen by the number of tokens."""

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor

FLASH_FROM = 2048 * 2048
"""Queries times keys. On a CPU the flash kernel's backward is slow: for 64 x 64 tokens the plain
products take 0.28 of its time forward and backward in bf16, for 1024 x 77 0.4, for 1024 x 1024
0.84; for 4096 x 4096 they are slower (1.14) and would hold 270 MB of weights."""


class ShortAttention:
    """A diffusers attention processor: plain products for few tokens, the flash kernel for many."""

    def __init__(self) -> None:
        self._plain, self._flash = AttnProcessor(), AttnProcessor2_0()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        keys = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        few = hidden_states.shape[1] * keys.shape[1] < FLASH_FROM
        chosen: Any = self._plain if few else self._flash
        result: Tensor = chosen(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        return result


def choose_attention(unet: UNet2DConditionModel, device: torch.device) -> None:
    """Let `unet` train fast on `device`: elsewhere than on a CPU diffusers' choice (SDPA) stays."""
    if device.type == "cpu":
        unet.set_attn_processor(ShortAttention())

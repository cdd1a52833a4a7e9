"""Weights in oneDNN's own layout, laid out once and not at every call: for a CPU in bf16."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from models.pipeline import in_bf16_on_cpu

SIZES_AT_ONCE = 2
"""Requests of two sizes take turns without packing anew; more would take more memory each."""


def pack(unet: nn.Module) -> None:
    """Have the plain convolutions and linear layers of `unet` keep their weights packed.

    The outputs stay the same to the bit. torch lays a layer's weights out anew in each call, which
    takes longer than the product itself where a batch has few rows. What is packed is not kept
    otherwise: `weight` is then NaN everywhere and tells shape, dtype and device only. A processor
    for which oneDNN has no bf16 (x86 without AVX-512) computes without packing.
    """
    if not in_bf16_on_cpu(unet) or not can_pack():
        return
    for layer in list(unet.modules()):
        if type(layer) is nn.Conv2d and layer.padding_mode == "zeros":
            layer.__class__ = PackedConv2d
            cast(PackedConv2d, layer).packed = {}
        elif type(layer) is nn.Linear:
            layer.__class__ = PackedLinear


def can_pack() -> bool:
    """Whether oneDNN packs bf16 weights for this processor."""
    return torch.backends.mkldnn.is_available() and bool(
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


class PackedLinear(nn.Linear):
    """A linear layer that packs its weights at its first call."""

    packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.packed is None:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach(), None)
            self.weight = _shape_of(self.weight)
        output: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self.packed, self.bias, "none", [], ""
        )
        return output


class PackedConv2d(nn.Conv2d):
    """A convolution that packs its weights when it first sees a picture's size.

    oneDNN's choice of a layout depends on height and width; the number of rows does not matter.
    """

    packed: dict[tuple[int, int], Tensor]
    """By height and width of the input, for the last `SIZES_AT_ONCE` new ones."""

    def forward(self, x: Tensor) -> Tensor:
        packed = self.packed.get((x.shape[-2], x.shape[-1]))
        output: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x,
            self._pack(x) if packed is None else packed,
            self.bias,
            self.padding,
            self.stride,
            self.dilation,
            self.groups,
            "none",
            [],
            "",
        )
        return output

    def _pack(self, x: Tensor) -> Tensor:
        """The weights for inputs of the size of `x`, which are kept."""
        any_size = next(iter(self.packed), None)
        weight = self.weight.detach() if any_size is None else self.packed[any_size].to_dense()
        if len(self.packed) == SIZES_AT_ONCE:
            del self.packed[next(iter(self.packed))]
        packed: Tensor = torch._C._nn.mkldnn_reorder_conv2d_weight(  # type: ignore[call-arg]
            weight.to_mkldnn(),
            list(self.padding),
            list(self.stride),
            list(self.dilation),
            self.groups,
            list(x.shape),
        )
        self.packed[x.shape[-2], x.shape[-1]] = packed
        self.weight = _shape_of(self.weight)
        return packed


def _shape_of(weight: Tensor) -> nn.Parameter:
    """A parameter of the same shape, dtype and device that takes no memory."""
    return nn.Parameter(weight.new_full((), math.nan).expand(weight.shape), requires_grad=False)

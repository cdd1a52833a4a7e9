"""Weights in oneDNN's own layout, laid out once and not at every call: for a CPU in bf16."""

import math

import torch
from torch import Tensor, nn

SIZES_AT_ONCE = 2
"""Requests of two sizes take turns without packing anew; more would take more memory each."""


def pack(unet: nn.Module) -> None:
    """Have the plain convolutions and linear layers of `unet` keep their weights packed.

    The outputs stay the same to the bit. torch lays a layer's weights out anew in each call, which
    takes longer than the product itself where a batch has few rows. What is packed is not kept
    otherwise: `weight` is then NaN everywhere and tells shape, dtype and device only.
    """
    parameter = next(unet.parameters())
    if (parameter.device.type, parameter.dtype) != ("cpu", torch.bfloat16):
        return
    if not torch.backends.mkldnn.is_available():
        return
    for layer in list(unet.modules()):
        if type(layer) is nn.Conv2d and layer.padding_mode == "zeros":
            layer.__class__ = PackedConv2d
        elif type(layer) is nn.Linear:
            layer.__class__ = PackedLinear


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

    packed: dict[tuple[int, int], Tensor] | None = None
    """By height and width of the input, for the last `SIZES_AT_ONCE` new ones."""

    def forward(self, x: Tensor) -> Tensor:
        places = (x.shape[-2], x.shape[-1])
        if self.packed is None or places not in self.packed:
            self._pack(x)
        assert self.packed is not None
        output: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x,
            self.packed[places],
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

    def _pack(self, x: Tensor) -> None:
        if self.packed is None:
            self.packed, weight = {}, self.weight.detach()
        else:
            weight = next(iter(self.packed.values())).to_dense()
        if len(self.packed) == SIZES_AT_ONCE:
            del self.packed[next(iter(self.packed))]
        places = (x.shape[-2], x.shape[-1])
        self.packed[places] = torch._C._nn.mkldnn_reorder_conv2d_weight(  # type: ignore[call-arg]
            weight.to_mkldnn(),
            list(self.padding),
            list(self.stride),
            list(self.dilation),
            self.groups,
            list(x.shape),
        )
        self.weight = _shape_of(self.weight)


def _shape_of(weight: Tensor) -> nn.Parameter:
    """A parameter of the same shape, dtype and device that takes no memory."""
    return nn.Parameter(weight.new_full((), math.nan).expand(weight.shape), requires_grad=False)

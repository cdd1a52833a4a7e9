"""LoRA adapters as a property of a row: one batch, in each row another dog."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn
from torch.nn import functional as F

from models.catalog import CatalogEntry
from models.errors import InvalidModel, ModelRefused
from models.formats.lora_file import LoraLayer, read_lora
from models.formats.tensor_file import open_tensors
from models.manifest import ADAPTER_FILE


@dataclass(frozen=True)
class LowRank:
    """One layer's update W + up @ down (Hu et al. 2021, arXiv 2106.09685, eq. 3)."""

    down: Tensor
    """`[r, in]` for a linear layer, `[r, in, kh, kw]` for a convolution."""
    up: Tensor
    """`[out, r]`, alpha / r folded in."""


Layers = Mapping[str, LowRank]
"""A component's adapted layers by module name."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """What one LoRA file holds for a pipeline's components."""

    unet: Layers
    text_encoder: Layers

    @property
    def size(self) -> int:
        """Bytes in memory."""
        pairs = [*self.unet.values(), *self.text_encoder.values()]
        return sum(t.numel() * t.element_size() for pair in pairs for t in (pair.down, pair.up))


def read_adapter(entry: CatalogEntry, pipeline: StableDiffusionPipeline) -> Adapter:
    """The LoRA file of `entry` in the dtype and on the device of `pipeline`.

    Raises InvalidModel where the file is damaged, of another kind, or does not fit the layers of
    `pipeline`.
    """
    label = f"{entry.manifest.name}/{ADAPTER_FILE}"
    try:
        file = open_tensors(entry.folder / ADAPTER_FILE, label)
        layers = read_lora(file, pipeline.unet, pipeline.text_encoder)
    except ModelRefused as error:  # a model of the catalog is the service's own
        raise InvalidModel(str(error)) from error
    return Adapter(
        **{
            part: {
                name: _fold(layer, getattr(pipeline, part).get_submodule(name).weight)
                for name, layer in of_part.items()
            }
            for part, of_part in layers.items()
        }
    )


def _fold(layer: LoraLayer, like: Tensor) -> LowRank:
    up = layer.up.float() * (layer.alpha / layer.rank)
    return LowRank(layer.down.to(like), up.to(like))


class RowAdapters:
    """Lets the layers of one component add, in each row of a batch, that row's own adapter.

    Rows of base weights cost nothing more; rows of one and the same adapter take two plain products
    a layer, mixed rows two batched ones (S-LoRA, arXiv 2311.03285, does it in one kernel).
    """

    def __init__(self, component: nn.Module) -> None:
        self._component = component
        self._hooked: set[str] = set()
        self._rows: Sequence[Layers | None] = ()

    def add_layers(self, layers: Layers) -> None:
        """Make the component ready for an adapter of these layers."""
        for name in layers.keys() - self._hooked:
            layer = self._component.get_submodule(name)
            layer.register_forward_hook(partial(self._add, name), prepend=True)
            self._hooked.add(name)

    @contextmanager
    def use(self, rows: Sequence[Layers | None]) -> Iterator[None]:
        """Within the block, row i of every batch goes through `rows[i]` too."""
        self._rows = rows if any(rows) else ()
        try:
            yield
        finally:
            self._rows = ()

    def _add(
        self, name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
    ) -> Tensor | None:
        """The layer's output with the update of each row."""
        if not self._rows:
            return None
        rows = self._rows[:: len(self._rows) // len(output)]  # twin rows may come as one
        pairs = [layers.get(name) if layers else None for layers in rows]
        touched = [index for index, pair in enumerate(pairs) if pair is not None]
        if not touched:
            return None
        chosen = [pair for pair in pairs if pair is not None]
        if len(touched) == len(pairs):
            return add_low_rank(layer, inputs[0], chosen, output)
        index = torch.tensor(touched, device=output.device)
        changed = add_low_rank(layer, inputs[0][index], chosen, output[index])
        return output.index_copy(0, index, changed)


def add_low_rank(layer: nn.Module, x: Tensor, pairs: Sequence[LowRank], output: Tensor) -> Tensor:
    """`output` `[B, ...]` + up_i @ down_i @ x_i for each row i of the layer's input `x` `[B, ...]`.

    Neighbours of the same adapter, as the two rows of guidance are, share one product.
    """
    if isinstance(layer, nn.Conv2d):
        inner = _convolve(layer, x, pairs).permute(0, 2, 3, 1)
        by_pixel = _add_product(output.permute(0, 2, 3, 1), inner, pairs)
        return by_pixel.permute(0, 3, 1, 2)
    return _add_product(output, _multiply(x, pairs), pairs)


def _multiply(x: Tensor, pairs: Sequence[LowRank]) -> Tensor:
    """down_i @ x_i of `[B, ..., in]`: `[B, ..., r]`."""
    neighbours = _neighbours(pairs)
    downs = _stack([pair.down.flatten(1) for pair in pairs[::neighbours]], 0)
    if len(downs) == 1:
        return F.linear(x, downs[0])
    rows = x.reshape(len(downs), -1, x.shape[-1])
    return torch.bmm(rows, downs.mT).view(*x.shape[:-1], downs.shape[1])


def _convolve(layer: nn.Conv2d, x: Tensor, pairs: Sequence[LowRank]) -> Tensor:
    """The convolution of x_i with down_i: `[B, r, h, w]`, each row as a group of its own."""
    assert not isinstance(layer.padding, str), "diffusers gives its padding in pixels"
    settings = layer.stride, layer.padding, layer.dilation
    if all(pair is pairs[0] for pair in pairs):
        return F.conv2d(x, pairs[0].down, None, *settings)
    if layer.kernel_size == (1, 1) and layer.stride == (1, 1):
        return _multiply(x.permute(0, 2, 3, 1), pairs).permute(0, 3, 1, 2)
    downs = _stack([pair.down for pair in pairs], 0)
    grouped = x.reshape(1, -1, *x.shape[2:])
    inner = F.conv2d(grouped, downs.flatten(0, 1), None, *settings, len(pairs))
    return inner.view(len(pairs), -1, *inner.shape[2:])


def _add_product(output: Tensor, inner: Tensor, pairs: Sequence[LowRank]) -> Tensor:
    """`output` `[B, ..., out]` + up_i @ inner_i of `[B, ..., r]`."""
    ups = _stack([pair.up for pair in pairs[:: _neighbours(pairs)]], 1)
    if len(ups) == 1:
        return output + F.linear(inner, ups[0])
    rows, inner = (tensor.reshape(len(ups), -1, tensor.shape[-1]) for tensor in (output, inner))
    return torch.baddbmm(rows, inner, ups.mT).view(output.shape)


def _neighbours(pairs: Sequence[LowRank]) -> int:
    """How many rows in a row have the same adapter, everywhere in the batch."""
    return math.gcd(*(len([*run]) for _, run in groupby(pairs, key=id)))


def _stack(matrices: Sequence[Tensor], dim: int) -> Tensor:
    """`[G, ...]` of matrices that differ in rank, which is their size along `dim`: with zeros."""
    rank = max(matrix.shape[dim] for matrix in matrices)
    return torch.stack([_pad(matrix, rank, dim) for matrix in matrices])


def _pad(matrix: Tensor, rank: int, dim: int) -> Tensor:
    """`matrix` with zeros up to `rank` along `dim`."""
    missing = rank - matrix.shape[dim]
    if not missing:
        return matrix
    after = matrix.ndim - 1 - dim
    return F.pad(matrix, (*(0, 0) * after, 0, missing))

"""LoRA adapters as a property of a row: one batch, in each row another dog."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

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
            layer.register_forward_hook(partial(self._add, name))
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
        pairs = [layers.get(name) if layers else None for layers in self._rows]
        touched = [index for index, pair in enumerate(pairs) if pair is not None]
        if not touched:
            return None
        chosen = [pair for pair in pairs if pair is not None]
        x, size = inputs[0], output.shape[2:]
        if len(touched) < len(pairs):
            index = torch.tensor(touched, device=x.device)
            update = low_rank_update(layer, x[index], chosen, size)
            return output.index_add(0, index, update)
        return output + low_rank_update(layer, x, chosen, size)


def low_rank_update(
    layer: nn.Module, x: Tensor, pairs: Sequence[LowRank], size: Sequence[int]
) -> Tensor:
    """up_i @ down_i @ x_i for each row i of `x` `[B, ...]`, shaped like the layer's output.

    `size` is that output's (h, w), where it has these.
    """
    first = pairs[0]
    if all(pair is first for pair in pairs):
        if isinstance(layer, nn.Conv2d):
            inner = F.conv2d(x, first.down, None, layer.stride, layer.padding, layer.dilation)
            return F.conv2d(inner, first.up[:, :, None, None])
        return F.linear(F.linear(x, first.down), first.up)
    rank = max(pair.down.shape[0] for pair in pairs)
    downs = torch.stack([_pad(pair.down.flatten(1), rank, 0) for pair in pairs])
    ups = torch.stack([_pad(pair.up, rank, 1) for pair in pairs])
    if isinstance(layer, nn.Conv2d):
        assert not isinstance(layer.padding, str), "diffusers gives its padding in pixels"
        columns = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        update = torch.bmm(ups, torch.bmm(downs, columns))  # [B, out, h * w]
        return update.view(*update.shape[:2], *size)
    return torch.bmm(torch.bmm(x, downs.mT), ups.mT)  # x [B, tokens, in]


def _pad(matrix: Tensor, rank: int, dim: int) -> Tensor:
    """`matrix` with zeros up to `rank` along `dim`."""
    missing = rank - matrix.shape[dim]
    if not missing:
        return matrix
    return F.pad(matrix, (0, 0, 0, missing) if dim == 0 else (0, missing))

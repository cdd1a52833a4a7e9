"""LoRA adapters as a property of a row: one batch, in each row another dog."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn
from torch.nn import functional as F

from models.catalog import CatalogEntry
from models.errors import InvalidModel
from models.manifest import ADAPTER_FILE
from models.pipeline import first_line

LOW_RANK_SUFFIXES = (".lora_A.weight", ".lora_B.weight")


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

    Reads the formats that diffusers converts (its own, PEFT's, kohya's). Raises InvalidModel where
    the file is damaged, of another kind, or does not fit the layers of `pipeline`.
    """
    name = entry.manifest.name
    try:
        state, alphas, metadata = StableDiffusionPipeline.lora_state_dict(
            entry.folder,
            weight_name=ADAPTER_FILE,
            use_safetensors=True,
            unet_config=pipeline.unet.config,
            return_lora_metadata=True,
        )
    except Exception as error:  # a foreign file can make the library raise anything
        reason = first_line(error, entry.folder)
        raise InvalidModel(f"{name}/{ADAPTER_FILE}: {reason}") from error
    parts: dict[str, dict[str, LowRank]] = {"unet": {}, "text_encoder": {}}
    for key in state:
        if key.endswith(LOW_RANK_SUFFIXES[1]):
            continue
        layer_key = key.removesuffix(LOW_RANK_SUFFIXES[0])
        part, _, layer_name = layer_key.partition(".")
        if layer_key == key or part not in parts:
            raise InvalidModel(f"{name}/{ADAPTER_FILE}: {key!r} is not a LoRA layer's weight")
        down, up = state[key], state.get(layer_key + LOW_RANK_SUFFIXES[1])
        if up is None:
            raise InvalidModel(f"{name}/{ADAPTER_FILE}: {layer_key!r} has no lora_B")
        layer_name, layer = _find_layer(getattr(pipeline, part), layer_name, f"{name}: {key}")
        pair = _fold(down, up, _alpha(layer_key, alphas or {}, metadata or {}))
        if (pair.up.shape[0], *pair.down.shape[1:]) != tuple(layer.weight.shape):
            raise InvalidModel(
                f"{name}/{ADAPTER_FILE}: {layer_key} is {tuple(pair.down.shape)} and "
                f"{tuple(pair.up.shape)}, its layer is {tuple(layer.weight.shape)}"
            )
        like = layer.weight
        parts[part][layer_name] = LowRank(pair.down.to(like), pair.up.to(like))
    if not parts["unet"] and not parts["text_encoder"]:
        raise InvalidModel(f"{name}: {ADAPTER_FILE} fits no layer of its base")
    return Adapter(parts["unet"], parts["text_encoder"])


def _alpha(
    layer_key: str, alphas: Mapping[str, float], metadata: Mapping[str, Any]
) -> float | None:
    """A layer's alpha from the metadata of a PEFT file, else from kohya's keys."""
    part, _, layer_name = layer_key.partition(".")
    alpha = metadata.get(f"{part}.lora_alpha")
    if alpha is None:
        return alphas.get(f"{layer_key}.alpha")
    pattern = metadata.get(f"{part}.alpha_pattern") or {}
    return float(pattern.get(layer_name, alpha))


def _find_layer(component: nn.Module, name: str, label: str) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The layer called `name`; transformers 5 left out CLIP's `text_model.` in its names."""
    for candidate in (name, name.removeprefix("text_model."), f"text_model.{name}"):
        try:
            layer = component.get_submodule(candidate)
        except AttributeError:
            continue
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            return candidate, layer
    raise InvalidModel(f"{label}: its base has no such linear layer or convolution")


def _fold(down: Tensor, up: Tensor, alpha: float | Tensor | None) -> LowRank:
    rank = down.shape[0]
    scale = 1.0 if alpha is None else float(alpha) / rank
    return LowRank(down, (up.float() * scale).reshape(up.shape[0], -1))


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

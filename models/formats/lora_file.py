"""LoRA files as diffusers, PEFT and kohya's sd-scripts write them: read for a base, and written."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from diffusers.utils import convert_state_dict_to_peft, convert_unet_state_dict_to_peft
from peft import LoraConfig
from torch import Tensor, nn

from models.errors import ModelRefused
from models.formats.tensor_file import TensorFile

DOWN, UP = ".lora_A.weight", ".lora_B.weight"
KOHYA_PREFIXES = {"unet": ("lora_unet_",), "text_encoder": ("lora_te_", "lora_te1_")}
MAX_ALPHA = 2**20
OLD_MARKS = (".lora.down.", ".lora.up.", "_lora.down.", "_lora.up.", "lora_linear_layer")


@dataclass(frozen=True)
class LoraLayer:
    """One layer's update W + (alpha / r) up @ down (Hu et al. 2021, arXiv 2106.09685, eq. 3)."""

    down: Tensor
    """`[r, in]` for a linear layer, `[r, in, kh, kw]` for a convolution."""
    up: Tensor
    """`[out, r]`."""
    alpha: float

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])


LoraLayers = Mapping[str, Mapping[str, LoraLayer]]
"""By part (`unet`, `text_encoder`) and by the module's name in it."""


def is_kohya(file: TensorFile) -> bool:
    """Whether the names are those of kohya's sd-scripts."""
    prefixes = tuple(p for both in KOHYA_PREFIXES.values() for p in both)
    return any(name.startswith(prefixes) for name in file.shapes)


def is_lora(file: TensorFile) -> bool:
    """Whether the file holds LoRA layers, in any of the known namings."""
    marks = (DOWN, UP, *OLD_MARKS)
    return is_kohya(file) or any(mark in name for name in file.shapes for mark in marks)


def read_lora(file: TensorFile, unet: nn.Module, text_encoder: nn.Module) -> LoraLayers:
    """The layers of `file`; every one of them fits a layer of `unet` or of `text_encoder`.

    Raises ModelRefused, which names the file and the layer, where one does not.
    """
    parts = {"unet": unet, "text_encoder": text_encoder}
    pairs = _kohya_pairs(file, parts) if is_kohya(file) else _diffusers_pairs(file, parts)
    layers: dict[str, dict[str, LoraLayer]] = {part: {} for part in parts}
    for part, name, key, down, up, alpha in pairs:
        shape = tuple(cast(Tensor, parts[part].get_submodule(name).weight).shape)
        if (
            not down.numel()
            or down.ndim != len(shape)
            or up.ndim not in (2, len(shape))
            or tuple(down.shape[1:]) != shape[1:]
            or up.numel() != up.shape[0] * up.shape[1]
            or tuple(up.shape[:2]) != (shape[0], down.shape[0])
        ):
            raise ModelRefused(
                f"{file.label}: {key} is {tuple(down.shape)} and {tuple(up.shape)}, "
                f"its layer is {shape}"
            )
        alpha = down.shape[0] if alpha is None else alpha
        if not math.isfinite(alpha):
            raise ModelRefused(f"{file.label}: {key}: alpha {alpha}: must be a finite number")
        layers[part][name] = LoraLayer(down, up.flatten(1), float(alpha))
    if not any(layers.values()):
        raise ModelRefused(f"{file.label}: fits no layer of its base")
    return layers


Pair = tuple[str, str, str, Tensor, Tensor, float | None]
"""Part, module, its name in the file, down, up, alpha where the file has one."""


def _kohya_pairs(file: TensorFile, parts: Mapping[str, nn.Module]) -> Iterator[Pair]:
    """kohya writes a module's name with underscores: the base's names say which one it is."""
    known = {
        prefix + _kohya_name(part, name): (part, name)
        for part, component in parts.items()
        for prefix in KOHYA_PREFIXES[part]
        for name, layer in component.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    }
    state = file.load()
    endings = (".lora_down.weight", ".lora_up.weight", ".alpha")
    for key in state:
        layer_key, _, ending = key.partition(".")
        if "." + ending not in endings:
            raise ModelRefused(f"{file.label}: {key[:120]!r} is not a LoRA layer's weight")
        if layer_key not in known:
            raise ModelRefused(_no_layer(file, key))
        if "." + ending != endings[0]:
            if layer_key + endings[0] not in state:
                raise ModelRefused(f"{file.label}: {layer_key!r} has no lora_down")
            continue
        up, alpha = state.get(layer_key + endings[1]), state.get(layer_key + endings[2])
        if up is None:
            raise ModelRefused(f"{file.label}: {layer_key!r} has no lora_up")
        if alpha is not None and alpha.numel() != 1:
            raise ModelRefused(f"{file.label}: {layer_key}.alpha is not one number")
        value = None if alpha is None else float(alpha)
        yield *known[layer_key], layer_key, state[key], up, value


def _kohya_name(part: str, module: str) -> str:
    """A module's name in a kohya file, without its prefix."""
    name = module.removeprefix("text_model.")
    return ("text_model_" if part == "text_encoder" else "") + name.replace(".", "_")


def _diffusers_pairs(file: TensorFile, parts: Mapping[str, nn.Module]) -> Iterator[Pair]:
    state = {key.replace("base_model.model.", "unet.", 1): v for key, v in file.load().items()}
    if any(mark in key for key in state for mark in OLD_MARKS):
        state = _modern(state, file.label)
    metadata = _peft_metadata(file)
    for key in state:
        layer_key = key.removesuffix(DOWN).removesuffix(UP)
        part, _, name = layer_key.partition(".")
        if layer_key == key or part not in parts:
            raise ModelRefused(f"{file.label}: {key[:120]!r} is not a LoRA layer's weight")
        if key.endswith(UP):
            if layer_key + DOWN not in state:
                raise ModelRefused(f"{file.label}: {layer_key!r} has no lora_A")
            continue
        up = state.get(layer_key + UP)
        if up is None:
            raise ModelRefused(f"{file.label}: {layer_key!r} has no lora_B")
        module = _find_module(parts[part], name)
        if module is None:
            raise ModelRefused(_no_layer(file, key))
        alpha = metadata.get(f"{part}.lora_alpha")
        pattern = metadata.get(f"{part}.alpha_pattern")
        if isinstance(pattern, dict):
            alpha = pattern.get(name, alpha)
        if alpha is not None and not (
            isinstance(alpha, (int, float)) and abs(alpha) <= MAX_ALPHA  # NaN is not
        ):
            raise ModelRefused(f"{file.label}: lora_alpha {alpha!r:.40}: must be a number")
        yield part, module, layer_key, state[key], up, alpha


def _modern(state: dict[str, Tensor], label: str) -> dict[str, Tensor]:
    """PEFT's names for those that diffusers wrote before it used PEFT."""
    unet = {key: value for key, value in state.items() if not key.startswith("text_encoder.")}
    text = {key: value for key, value in state.items() if key.startswith("text_encoder.")}
    try:
        converted: dict[str, Tensor] = convert_unet_state_dict_to_peft(unet)
        return converted | (convert_state_dict_to_peft(text) if text else {})
    except ValueError as error:  # the library does not know these names
        raise ModelRefused(f"{label}: mixes the names of several kinds of LoRA") from error


def _peft_metadata(file: TensorFile) -> dict[str, Any]:
    """The adapter's configuration that diffusers keeps in a file's header; {} without one."""
    try:
        read = json.loads(file.metadata.get(LORA_ADAPTER_METADATA_KEY, "{}"))
    except (ValueError, RecursionError) as error:
        raise ModelRefused(f"{file.label}: {LORA_ADAPTER_METADATA_KEY} is not JSON") from error
    if not isinstance(read, dict):
        raise ModelRefused(f"{file.label}: {LORA_ADAPTER_METADATA_KEY} is not a JSON object")
    return read


def _find_module(component: nn.Module, name: str) -> str | None:
    """The layer called `name`; transformers 5 left out CLIP's `text_model.` in its names."""
    for candidate in (name, name.removeprefix("text_model."), f"text_model.{name}"):
        try:
            layer = component.get_submodule(candidate)
        except AttributeError:
            continue
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            return candidate
    return None


def _no_layer(file: TensorFile, key: str) -> str:
    return f"{file.label}: {key[:120]}: its base has no such linear layer or convolution"


def _up_like(layer: LoraLayer) -> Tensor:
    """`up` in the shape that files have: `[out, r, 1, 1]` for a convolution."""
    return layer.up.reshape(*layer.up.shape, *(1,) * (layer.down.ndim - 2))


def diffusers_state(layers: LoraLayers) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the header's metadata of a diffusers LoRA file."""
    state: dict[str, Tensor] = {}
    config: dict[str, Any] = {}
    for part, of_part in layers.items():
        if not of_part:
            continue
        for name, layer in of_part.items():
            state[f"{part}.{name}{DOWN}"] = layer.down.contiguous()
            state[f"{part}.{name}{UP}"] = _up_like(layer).contiguous()
        rank = most_common([layer.rank for layer in of_part.values()])
        alpha = most_common([layer.alpha for layer in of_part.values()])
        described = LoraConfig(
            r=rank,
            lora_alpha=alpha,
            target_modules=sorted(of_part),
            rank_pattern={k: v.rank for k, v in of_part.items() if v.rank != rank},
            alpha_pattern={k: v.alpha for k, v in of_part.items() if v.alpha != alpha},
        ).to_dict()
        config |= {f"{part}.{key}": value for key, value in described.items()}
    packed = json.dumps(config, indent=2, sort_keys=True, default=list)
    return state, {"format": "pt", LORA_ADAPTER_METADATA_KEY: packed}


def kohya_state(layers: LoraLayers) -> dict[str, Tensor]:
    """The tensors of a kohya LoRA file, as A1111, ComfyUI and sd-scripts read them."""
    state: dict[str, Tensor] = {}
    for part, of_part in layers.items():
        for name, layer in of_part.items():
            key = KOHYA_PREFIXES[part][0] + _kohya_name(part, name)
            state[f"{key}.lora_down.weight"] = layer.down.contiguous()
            state[f"{key}.lora_up.weight"] = _up_like(layer).contiguous()
            state[f"{key}.alpha"] = torch.tensor(layer.alpha)
    return state


def most_common(values: list[Any]) -> Any:
    """The value that stands there most often, the first one among equals."""
    return Counter(values).most_common(1)[0][0]

"""Single-file checkpoints: the names that CompVis' latent-diffusion gave a pipeline's weights.

diffusers reads them (its converters are used here) but writes none: the names for that stand here.
"""

import re
from collections.abc import Callable, Mapping

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import Tensor

from models.errors import ModelRefused
from models.formats.components import Components, Config, check_shapes, modern_name
from models.formats.tensor_file import TensorFile

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
CLIP, OPEN_CLIP = TEXT + "transformer.text_model.", TEXT + "model."
PREFIXES = {"unet": UNET, "vae": VAE, "text_encoder": TEXT}
OPEN_CLIP_TOP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
UNET_TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}

State = Mapping[str, Tensor]


def to_ldm(states: Mapping[str, State], components: Components) -> dict[str, Tensor]:
    """One checkpoint's tensors of the `states` of unet, vae and text_encoder.

    Text encoders with `gelu` are OpenCLIP's (Stable Diffusion v2), others OpenAI's (v1). Raises
    ModelRefused where the layout has no name for a weight.
    """
    unet_name, vae_name = _unet_names(components.unet), _vae_names(components.vae)
    written = {UNET + unet_name(key): value for key, value in states["unet"].items()}
    for key, value in states["vae"].items():
        name = vae_name(modern_name("vae", key))
        is_attention = ".attn_1." in name and value.ndim == 2
        written[VAE + name] = value[:, :, None, None] if is_attention else value
    text = {
        modern_name("text_encoder", key): value
        for key, value in states["text_encoder"].items()
        if "position_ids" not in key
    }
    if components.text_encoder.config.hidden_act == "gelu":
        return written | _open_clip(text)
    return written | {CLIP + key: value for key, value in text.items()}


def _unet_names(unet: UNet2DConditionModel) -> Callable[[str], str]:
    """What a U-Net's weight is called in a checkpoint, for any number of blocks and layers."""
    layers: int = unet.config.layers_per_block
    if not isinstance(layers, int):
        raise ModelRefused(f"unet/config.json: layers_per_block {layers}: one number is needed")
    attention = [hasattr(block, "attentions") for block in unet.up_blocks]

    def name(key: str) -> str:
        for ours, theirs in UNET_TOP.items():
            if key.startswith(ours + "."):
                return key.replace(ours, theirs, 1)
        found = re.fullmatch(r"(down|mid|up)_blocks?\.(?:(\d+)\.)?(\w+)\.(\d+)\.(.+)", key)
        if found is None:
            raise ModelRefused(f"unet: {key!r} has no place in a single-file checkpoint")
        where, block, kind = found[1], int(found[2] or 0), found[3]
        index, rest = int(found[4]), found[5]
        if kind == "resnets":
            rest = _renamed(rest, UNET_RESNET)
        if where == "mid":
            position = 1 if kind == "attentions" else 2 * index
            return f"middle_block.{position}.{rest}"
        first = block * (layers + 1)
        if kind == "downsamplers":
            return f"input_blocks.{first + layers + 1}.0.{rest.replace('conv', 'op', 1)}"
        if kind == "upsamplers":
            return f"output_blocks.{first + layers}.{1 + attention[block]}.{rest}"
        inner = f"{int(kind == 'attentions')}.{rest}"
        if where == "down":
            return f"input_blocks.{first + index + 1}.{inner}"
        return f"output_blocks.{first + index}.{inner}"

    return name


def _vae_names(vae: AutoencoderKL) -> Callable[[str], str]:
    """What an autoencoder's weight is called in a checkpoint."""
    levels = len(vae.config.block_out_channels)

    def name(key: str) -> str:
        found = re.fullmatch(r"(\w+)\.(down|mid|up)_blocks?\.(?:(\d+)\.)?(\w+)\.(\d+)\.(.+)", key)
        if found is None:
            return key.replace("conv_norm_out", "norm_out")
        side, where, kind, index, rest = found[1], found[2], found[4], int(found[5]), found[6]
        rest = rest.replace("conv_shortcut", "nin_shortcut")
        if where == "mid":
            if kind == "attentions":
                return f"{side}.mid.attn_1.{_renamed(rest, VAE_ATTENTION)}"
            return f"{side}.mid.block_{index + 1}.{rest}"
        block = int(found[3]) if where == "down" else levels - 1 - int(found[3])
        if kind == "resnets":
            return f"{side}.{where}.{block}.block.{index}.{rest}"
        return f"{side}.{where}.{block}.{where}sample.{rest}"

    return name


def _renamed(rest: str, names: Mapping[str, str]) -> str:
    """`rest` with its first part, which is one of `names`, in its other name."""
    for ours, theirs in names.items():
        if rest.startswith(ours + "."):
            return theirs + rest.removeprefix(ours)
    return rest


def _open_clip(text: State) -> dict[str, Tensor]:
    """CLIP's weights as OpenCLIP has them: query, key and value in one matrix."""
    written: dict[str, Tensor] = {}
    fused: dict[str, list[Tensor]] = {}
    for key, value in sorted(text.items()):
        if key in OPEN_CLIP_TOP:
            written[OPEN_CLIP + OPEN_CLIP_TOP[key]] = value
            continue
        found = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", key)
        if found is None:
            raise ModelRefused(f"text_encoder: {key!r} has no place in a single-file checkpoint")
        layer, name, kind = f"{OPEN_CLIP}transformer.resblocks.{found[1]}.", found[2], found[3]
        if name in OPEN_CLIP_LAYER:
            written[f"{layer}{OPEN_CLIP_LAYER[name]}.{kind}"] = value
        else:
            fused.setdefault(f"{layer}attn.in_proj_{kind}", []).append(value)  # k, q, v by name
    return written | {key: torch.cat([q, k, v]) for key, (k, q, v) in fused.items()}


def from_ldm(
    file: TensorFile, part: str, components: Components, config: Config
) -> dict[str, Tensor]:
    """The weights of one part of a checkpoint by their diffusers names, in the file's dtypes."""
    names = [name for name in file.shapes if name.startswith(PREFIXES[part])]
    return _convert(file.load(names), part, components, config, file.label)


def check_ldm(file: TensorFile, components: Components, configs: Mapping[str, Config]) -> None:
    """Raise ModelRefused where the checkpoint's shapes are not those of `components`."""
    empty = file.placeholders()
    for part, prefix in PREFIXES.items():
        if not any(name.startswith(prefix) for name in file.shapes):
            raise ModelRefused(f"{file.label}: has no {part} ({prefix}...); only whole checkpoints")
        named = {name: value for name, value in empty.items() if name.startswith(prefix)}
        converted = _convert(named, part, components, configs[part], file.label)
        shapes = {name: tuple(value.shape) for name, value in converted.items()}
        if part == "unet" and len(converted) < len(
            named
        ):  # the converter drops what it cannot place
            raise ModelRefused(
                f"{file.label}: is of another architecture: {len(named)} U-Net weights, "
                f"{len(converted)} of them have a place in its base"
            )
        check_shapes(part, shapes, components.part(part), file.label)


def _convert(
    tensors: dict[str, Tensor], part: str, components: Components, config: Config, label: str
) -> dict[str, Tensor]:
    try:
        if part == "unet":
            converted = convert_ldm_unet_checkpoint(tensors, config)
        elif part == "vae":
            converted = convert_ldm_vae_checkpoint(tensors, config)
        elif OPEN_CLIP + "token_embedding.weight" in tensors:
            converted = convert_open_clip_checkpoint(components.text_encoder, tensors, OPEN_CLIP)
        else:
            converted = convert_ldm_clip_checkpoint(tensors)
    except Exception as error:  # a foreign file can make the library raise anything
        message = f"{label}: is of another architecture: {part}: {error!r:.200}"
        raise ModelRefused(message) from error
    return {
        modern_name(part, name): value
        for name, value in converted.items()
        if value is not None and "position_ids" not in name
    }


def is_checkpoint(file: TensorFile) -> bool:
    """Whether the file's names are a checkpoint's."""
    return any(name.startswith((UNET, VAE, TEXT)) for name in file.shapes)

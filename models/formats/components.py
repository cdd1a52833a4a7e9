"""A Stable Diffusion pipeline's parts as empty modules: what shapes a configuration asks for.

Everything is built on the meta device, which holds no memory, from fields that are known: a foreign
configuration can neither run code nor name a file, and what it claims costs nothing to check.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from models.errors import ModelRefused, first_line
from models.formats.tensor_file import Shape
from models.schedulers import SCHEDULERS

Config = dict[str, Any]

PARTS = ("unet", "vae", "text_encoder")
"""The parts of a pipeline that hold weights."""
CLASSES = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
LIBRARIES = {"unet": "diffusers", "vae": "diffusers", "text_encoder": "transformers"}
WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
SCHEDULER_CLASSES = {spec.class_name for spec in SCHEDULERS.values()} | {
    "DEISMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
}

MAX_JSON = 8 * 2**20
MAX_NUMBER = 2**20
MAX_LIST = 4096
DEPTHS = {
    "layers_per_block": 8,
    "transformer_layers_per_block": 8,
    "reverse_transformer_layers_per_block": 8,
    "num_hidden_layers": 64,
    "block_out_channels": 8,
    "num_train_timesteps": 10_000,
}
"""What makes a module deep or a schedule long, with the most that is taken (lists: values)."""

TEXT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "projection_dim",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
    "attention_dropout",
    "initializer_range",
    "initializer_factor",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)
OLD_VAE_NAMES = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}


@dataclass(frozen=True)
class Components:
    """The parts of one pipeline on the meta device."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel

    def part(self, name: str) -> nn.Module:
        """One of `PARTS`."""
        return cast(nn.Module, getattr(self, name))


def read_json(path: Path, label: str) -> Config:
    """The JSON object in `path`; raises ModelRefused, naming the file, where there is none."""
    try:
        if path.stat().st_size > MAX_JSON:
            raise ModelRefused(f"{label}: has more than {MAX_JSON // 2**20} MiB")
        read = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not JSON"
        raise ModelRefused(f"{label}: {reason}") from error
    if not isinstance(read, dict):
        raise ModelRefused(f"{label}: is not a JSON object")
    _check_depth(read, label)
    return read


def _check_depth(value: Any, label: str, levels: int = 20) -> None:
    """Refuse JSON in which a library that walks it would lose itself."""
    if isinstance(value, (dict, list)):
        if not levels:
            raise ModelRefused(f"{label}: is nested too deeply")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, label, levels - 1)


def read_components(folder: Path) -> Components:
    """The parts that the configs in the diffusers folder `folder` describe; raises ModelRefused."""
    return Components(**{part: build(part, read_config(folder, part)) for part in PARTS})


def read_config(folder: Path, part: str) -> Config:
    """The config of one part, with numbers that are not out of all bounds."""
    config = read_json(folder / part / "config.json", _label(part))
    _check_bounds(config, _label(part))
    return config


def build(part: str, config: Config) -> Any:
    """An empty module of `config` on the meta device; raises ModelRefused where none can be."""
    return _make(_label(part), lambda: _module(part, config))


def _module(part: str, config: Config) -> Any:
    label, known = _label(part), CLASSES[part]
    with torch.device("meta"):
        if part == "text_encoder":
            kind = config.get("model_type")
            if kind not in ("clip_text_model", "clip"):
                raise ModelRefused(f"{label}: model_type {kind!r:.80}: not CLIP's text encoder")
            fields = {name: config[name] for name in TEXT_FIELDS if name in config}
            return CLIPTextModel(CLIPTextConfig(**fields))
        named = config.get("_class_name", known.__name__)
        if named != known.__name__:
            raise ModelRefused(f"{label}: the class {named!r:.80} is not {known.__name__}")
        return known.from_config(_plain(config))


def _label(part: str) -> str:
    return f"{part}/config.json"


def make_scheduler(config: Config, label: str) -> Any:
    """The scheduler of a pipeline's config; raises ModelRefused."""
    _check_bounds(config, label)
    name = config.get("_class_name")
    if name not in SCHEDULER_CLASSES:
        raise ModelRefused(f"{label}: the scheduler {name!r:.80} is not supported")
    scheduler_class = getattr(diffusers, str(name))
    return _make(label, lambda: scheduler_class.from_config(_plain(config)))


def _plain(config: Config) -> Config:
    """Without what could make a library load something else."""
    return {key: value for key, value in config.items() if key != "quantization_config"}


def _make(label: str, maker: Callable[[], Any]) -> Any:
    try:
        return maker()
    except ModelRefused:
        raise
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # anything; the tokenizers' panics are not even Exceptions
        reason = first_line(error)[:200]
        raise ModelRefused(f"{label}: describes no such module: {reason}") from error


def _check_bounds(value: Any, label: str, key: str = "") -> None:
    """Refuse numbers and lists with which building the module would take for ever."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_bounds(inner, label, name)
    elif isinstance(value, list):
        if len(value) > DEPTHS.get(key, MAX_LIST):
            raise ModelRefused(f"{label}: {key} has {len(value)} values")
        for inner in value:
            _check_bounds(inner, label, "" if key == "block_out_channels" else key)
    elif isinstance(value, (int, float)) and not abs(value) <= DEPTHS.get(key, MAX_NUMBER):
        raise ModelRefused(f"{label}: {key or 'a number'} {value!r:.40} is out of bounds")


def modern_name(part: str, key: str) -> str:
    """A weight's name as the libraries have it today; older files have others."""
    if part == "text_encoder":
        return key.removeprefix("text_model.")
    if part == "vae" and ".attentions." in key:
        for old, new in OLD_VAE_NAMES.items():
            key = key.replace(old, new)
    return key


def check_shapes(part: str, shapes: Mapping[str, Shape], module: nn.Module, label: str) -> None:
    """Raise ModelRefused where weights of `shapes` are not exactly those of `module`."""
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {modern_name(part, name): tuple(shape) for name, shape in shapes.items()}
    missing = sorted(expected.keys() - given.keys())
    if missing:
        raise ModelRefused(
            f"{label}: is of another architecture: {part} lacks {missing[0]!r}"
            f" ({len(missing)} of {len(expected)} weights)"
        )
    for name, shape in expected.items():
        if given[name] != shape:
            raise ModelRefused(
                f"{label}: is of another architecture: {part} {name!r} is {list(given[name])}, "
                f"not {list(shape)}"
            )
    extra = sorted(key for key in given.keys() - expected.keys() if "position_ids" not in key)
    if extra:
        raise ModelRefused(
            f"{label}: is of another architecture: {part} has no {extra[0][:120]!r}"
            f" ({len(extra)} such weights)"
        )


def check_together(components: Components) -> None:
    """Raise ModelRefused where the parts cannot draw a picture with one another."""
    unet, vae = components.unet, components.vae
    size = 2 ** (len(unet.config.block_out_channels) - 1)
    width = components.text_encoder.config.hidden_size
    if unet.config.cross_attention_dim != width:
        raise ModelRefused(
            f"unet/config.json: cross_attention_dim {unet.config.cross_attention_dim!r:.80}: "
            f"the text encoder gives {width}"
        )
    channels = unet.config.in_channels
    if not vae.config.latent_channels == channels == unet.config.out_channels:
        raise ModelRefused(
            f"unet/config.json: in_channels {channels}, out_channels {unet.config.out_channels}: "
            f"the autoencoder has {vae.config.latent_channels}"
        )
    scale = vae.config.scaling_factor
    if not isinstance(scale, (int, float)) or not scale > 0:
        raise ModelRefused(f"vae/config.json: scaling_factor {scale!r:.80}: must be above 0")
    side = unet.config.sample_size
    if not isinstance(side, int) or not size <= side <= 256 or side % size:
        raise ModelRefused(
            f"unet/config.json: sample_size {side!r:.80}: must be a multiple of {size} up to 256"
        )

    def draw() -> None:
        with torch.no_grad(), torch.device("meta"):
            latents = torch.empty(2, channels, size, size)
            texts = torch.empty(2, 3, width)
            predicted = unet(latents, torch.empty(2), encoder_hidden_states=texts).sample
            picture = vae.decode(predicted).sample
            if vae.encode(picture).latent_dist.mean.shape != latents.shape:
                raise ValueError("the autoencoder does not give back latents of the size it takes")

    _make("unet, vae", draw)


def read_tokenizer(folder: Path, components: Components) -> CLIPTokenizer:
    """The tokenizer in `folder`; raises ModelRefused where it does not suit the text encoder."""
    where = "tokenizer"
    tokenizer = _make(
        where, lambda: CLIPTokenizer.from_pretrained(folder / where, local_files_only=True)
    )
    config = components.text_encoder.config
    ids = _make(where, lambda: tokenizer("a photo of a dog, ñ 狗", truncation=True).input_ids)
    largest = max([*ids, len(tokenizer) - 1])
    if largest >= config.vocab_size:
        raise ModelRefused(f"{where}: has token {largest}, the text encoder {config.vocab_size}")
    if not 2 < tokenizer.model_max_length <= config.max_position_embeddings:
        raise ModelRefused(
            f"{where}: model_max_length {tokenizer.model_max_length!r:.40}: the text encoder takes "
            f"{config.max_position_embeddings}"
        )
    return tokenizer


def native_resolution(components: Components) -> int:
    """Pixels of width and height that the U-Net was made for."""
    factor = 2 ** (len(components.vae.config.block_out_channels) - 1)
    return int(components.unet.config.sample_size * factor)

"""LoRA layers on a Stable Diffusion pipeline: which, how many, how they are written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from models.manifest import ADAPTER_FILE

LoraTargets = Literal["attention", "attention+convolutions"]
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
FEED_FORWARD = ["ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
CONVOLUTIONS = ["conv1", "conv2", "conv_shortcut"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj"]


def add_unet_adapter(
    unet: UNet2DConditionModel, rank: int, alpha: float, targets: LoraTargets, dora: bool = False
) -> None:
    """Freeze `unet` and add trainable LoRA layers in fp32 (Hu et al. 2021, arXiv 2106.09685).

    `dora` adds a trained magnitude to each output (Liu et al. 2024, arXiv 2402.09353).
    """
    modules = ATTENTION if targets == "attention" else ATTENTION + FEED_FORWARD + CONVOLUTIONS
    _add(unet, rank, alpha, modules, dora)


def add_text_adapter(
    text_encoder: CLIPTextModel, rank: int, alpha: float, dora: bool = False
) -> None:
    """Freeze `text_encoder` and add trainable LoRA layers to its attention, in fp32."""
    _add(text_encoder, rank, alpha, TEXT, dora)


def _add(model: nn.Module, rank: int, alpha: float, modules: list[str], dora: bool) -> None:
    model.requires_grad_(False)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=modules,
        init_lora_weights="gaussian",
        use_dora=dora,
    )
    model.add_adapter(config)  # type: ignore[operator]
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # fp16 gradients cannot be unscaled
    for layer in lora_layers(model):
        # Autocast brings the input to its own type: PEFT's cast to fp32 before it only costs.
        layer.cast_input_dtype_enabled = False


def lora_layers(model: nn.Module) -> Iterator[LoraLayer]:
    """The layers of `model` that an adapter was added to."""
    return (module for module in model.modules() if isinstance(module, LoraLayer))


def low_rank_change(model: nn.Module) -> tuple[float, float]:
    """Squared Frobenius norms of all updates `scale * B A` of `model`, and of the weights beneath.

    |B A|^2 = sum((B^T B) * (A A^T)) spares the product, which is as large as the weight.
    """
    changed = beneath = 0.0
    for layer in lora_layers(model):
        for name in layer.lora_A:
            down = layer.lora_A[name].weight.detach().double().flatten(1)
            up = layer.lora_B[name].weight.detach().double().flatten(1)
            norm = ((up.T @ up) * (down @ down.T)).sum().item()
            changed += layer.scaling[name] ** 2 * norm
        beneath += layer.get_base_layer().weight.detach().double().square().sum().item()
    return changed, beneath


def save_adapter(
    folder: Path,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel | None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write `pytorch_lora_weights.safetensors`, with rank and alpha in its metadata.

    `text_encoder` is None where it was not trained.
    """
    trained = {"unet": unet, "text_encoder": text_encoder}
    components = {part: model for part, model in trained.items() if model is not None}
    layers = {part: get_peft_model_state_dict(model) for part, model in components.items()}
    metadata = {
        # PEFT notes the folder that the base came from, a path of this machine.
        part: next(iter(model.peft_config.values())).to_dict() | {"base_model_name_or_path": None}
        for part, model in components.items()
    }
    stored = {
        part: {key: _stored(value, dtype) for key, value in state.items()}
        for part, state in layers.items()
    }
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=stored["unet"],
        text_encoder_lora_layers=stored.get("text_encoder"),
        unet_lora_adapter_metadata=metadata["unet"],
        text_encoder_lora_adapter_metadata=metadata.get("text_encoder"),
        safe_serialization=True,
    )


def load_adapter(
    folder: Path, unet: UNet2DConditionModel, text_encoder: CLIPTextModel | None
) -> None:
    """Put what save_adapter wrote back into the layers of the same adapter."""
    state = load_file(folder / ADAPTER_FILE)
    for part, model in (("unet", unet), ("text_encoder", text_encoder)):
        own = {
            key.removeprefix(f"{part}."): value
            for key, value in state.items()
            if key.startswith(f"{part}.")
        }
        if model is not None:
            set_peft_model_state_dict(model, own)


def _stored(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.detach().cpu().to(dtype).contiguous()

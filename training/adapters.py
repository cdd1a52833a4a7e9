"""LoRA layers on a Stable Diffusion pipeline: which, how many, and how they are written."""

from pathlib import Path
from typing import Literal

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from transformers import CLIPTextModel

LoraTargets = Literal["attention", "attention+convolutions"]
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
FEED_FORWARD = ["ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
CONVOLUTIONS = ["conv1", "conv2", "conv_shortcut"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj"]


def add_unet_adapter(
    unet: UNet2DConditionModel, rank: int, alpha: float, targets: LoraTargets
) -> None:
    """Freeze `unet` and add trainable LoRA layers in fp32 (Hu et al. 2021, arXiv 2106.09685)."""
    modules = ATTENTION if targets == "attention" else ATTENTION + FEED_FORWARD + CONVOLUTIONS
    _add(unet, rank, alpha, modules)


def add_text_adapter(text_encoder: CLIPTextModel, rank: int, alpha: float) -> None:
    """Freeze `text_encoder` and add trainable LoRA layers to its attention, in fp32."""
    _add(text_encoder, rank, alpha, TEXT)


def _add(model: torch.nn.Module, rank: int, alpha: float, modules: list[str]) -> None:
    model.requires_grad_(False)
    config = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=modules, init_lora_weights="gaussian"
    )
    model.add_adapter(config)  # type: ignore[operator]
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # fp16 gradients cannot be unscaled


def save_adapter(
    folder: Path, unet: UNet2DConditionModel, text_encoder: CLIPTextModel | None
) -> None:
    """Write `pytorch_lora_weights.safetensors` in fp16, with rank and alpha in its metadata.

    `text_encoder` is None where it was not trained.
    """
    layers = {"unet": get_peft_model_state_dict(unet)}
    metadata = {"unet": next(iter(unet.peft_config.values())).to_dict()}
    if text_encoder is not None:
        layers["text_encoder"] = get_peft_model_state_dict(text_encoder)
        metadata["text_encoder"] = next(iter(text_encoder.peft_config.values())).to_dict()
    half = {
        part: {key: value.detach().cpu().half().contiguous() for key, value in state.items()}
        for part, state in layers.items()
    }
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=half["unet"],
        text_encoder_lora_layers=half.get("text_encoder"),
        unet_lora_adapter_metadata=metadata["unet"],
        text_encoder_lora_adapter_metadata=metadata.get("text_encoder"),
        safe_serialization=True,
    )

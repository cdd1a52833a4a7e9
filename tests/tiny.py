"""Tiny real models: a Stable Diffusion pipeline and a LoRA adapter that run in milliseconds."""

from datetime import UTC, datetime
from shutil import copytree
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from models.catalog import Catalog
from models.manifest import UPSCALER_FOLDER, Manifest
from training.upscaler import with_another_stage

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def tiny_tokenizer() -> CLIPTokenizer:
    """One token a byte, as in CLIP's own vocabulary before its merges."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=32)


def tiny_pipeline(seed: int = 0) -> StableDiffusionPipeline:
    """A pipeline of random weights for pictures of 32x32 pixels: [B, 4, 4, 4] latents."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=32,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )
    return StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def tiny_manifest(name: str = "tiny", **fields: Any) -> Manifest:
    """A manifest for the tiny pipeline, or with kind and base for an adapter of it."""
    values: dict[str, Any] = {
        "kind": "base",
        "resolution": 32,
        "default_steps": 2,
        "created": CREATED,
    }
    return Manifest(name=name, **(values | fields))


def publish_base(catalog: Catalog, name: str = "tiny", seed: int = 0, **fields: Any) -> None:
    """Publish a tiny pipeline of its own random weights; replaces one of the same name."""
    with catalog.publish(tiny_manifest(name, **fields), replace=True) as folder:
        tiny_pipeline(seed).save_pretrained(folder)


def add_upscaler(catalog: Catalog, name: str = "tiny") -> AutoencoderKL:
    """Give the base a decoder for twice the side that does not draw just its pictures enlarged."""
    entry = catalog.get(name)
    upscaler = with_another_stage(tiny_pipeline().vae).eval()
    torch.nn.init.ones_(upscaler.decoder.conv_out.bias)
    with catalog.publish(entry.manifest, replace=True) as folder:
        copytree(entry.folder, folder, dirs_exist_ok=True)
        upscaler.save_pretrained(folder / UPSCALER_FOLDER)
    return upscaler


def publish_adapter(catalog: Catalog, name: str, base: str = "tiny", **fields: Any) -> None:
    """Publish a LoRA for the tiny U-Net, strong enough to change every picture."""
    torch.manual_seed(1)
    unet = tiny_pipeline().unet
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False))
    with catalog.publish(tiny_manifest(name, kind="adapter", base=base, **fields)) as folder:
        StableDiffusionPipeline.save_lora_weights(folder, get_peft_model_state_dict(unet))

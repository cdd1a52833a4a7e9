"""Tiny pipelines in the shapes of Stable Diffusion v1 and v2: four levels, two layers each."""

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from models.catalog import Catalog
from models.pipeline import load_pipeline
from tests.tiny import tiny_manifest, tiny_pipeline


def shaped_pipeline(shape: str, seed: int = 0) -> StableDiffusionPipeline:
    """`tiny` has two levels, as the shipped base; `v1` and `v2` have Stable Diffusion's blocks."""
    pipeline = tiny_pipeline(seed)
    if shape == "tiny":
        return pipeline
    torch.manual_seed(seed)
    linear = {"use_linear_projection": True} if shape == "v2" else {}
    pipeline.unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8, 16, 16),
        layers_per_block=2,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=2,
        **linear,
    ).eval()
    pipeline.vae = AutoencoderKL(
        block_out_channels=(4, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=64,
    ).eval()
    config = pipeline.text_encoder.config.to_dict()
    config |= {"num_hidden_layers": 2, "hidden_act": "gelu" if shape == "v2" else "quick_gelu"}
    pipeline.text_encoder = CLIPTextModel(CLIPTextConfig(**config)).eval()
    return pipeline


def publish_shaped(
    catalog: Catalog, name: str, shape: str, seed: int = 0, **fields: Any
) -> StableDiffusionPipeline:
    """Publish a pipeline of `shape`; replaces one of the same name."""
    pipeline = shaped_pipeline(shape, seed)
    resolution = 32 if shape == "tiny" else 64
    manifest = tiny_manifest(name, **({"resolution": resolution} | fields))
    with catalog.publish(manifest, replace=True) as folder:
        pipeline.save_pretrained(folder)
    return pipeline


def draw(catalog: Catalog, model: str) -> np.ndarray:
    """A picture of `model` as plain diffusers draws it, values 0 to 255."""
    pipeline = load_pipeline(model, catalog, torch.device("cpu"), torch.float32)
    return draw_with(pipeline)


def draw_with(pipeline: StableDiffusionPipeline) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        "a photo of a dog",
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(1),
    ).images[0]
    return np.asarray(image, dtype=int)


def largest_difference(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one - other).max())


def small_unet(dtype: torch.dtype) -> UNet2DConditionModel:
    """Two levels, attention in the upper one."""
    torch.manual_seed(0)
    made = UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    return made.to(dtype).eval()

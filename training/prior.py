"""The prior of DreamBooth: what the base knew of the class before it was changed."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from data.photos import UnusablePhoto, open_photo
from training.caching import cached, weights_of
from training.config import ConfigError
from training.pictures import pixels

STEPS = 25
GUIDANCE_SCALE = 3.0


@torch.no_grad()
def class_latents(
    pipeline: StableDiffusionPipeline,
    prompts: list[str],
    count: int,
    size: tuple[int, int],
    seed: int,
    cache: Path,
    batch_size: int = 16,
) -> Tensor:
    """Latents `[count, C, h, w]` drawn by the base; number i shows `prompts[i % len(prompts)]`.

    `size` is height and width in pixels.

    Kept as latents (decoding and encoding would only blur them), cached in `cache` by the content
    of the base's weights and every setting.
    """

    def make() -> dict[str, Tensor]:
        parts = []
        for start in tqdm(range(0, count, batch_size), desc="class images", unit="batch"):
            numbers = range(start, min(start + batch_size, count))
            latents = pipeline(
                [prompts[i % len(prompts)] for i in numbers],
                height=size[0],
                width=size[1],
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE_SCALE,
                generator=[torch.Generator().manual_seed(seed * 1_000_003 + i) for i in numbers],
                output_type="latent",
            ).images
            parts.append(latents.float().cpu())
        return {"latents": torch.cat(parts)}

    parts = {
        "weights": weights_of(pipeline.unet, pipeline.text_encoder),
        "dtype": [str(pipeline.unet.dtype), torch.is_autocast_enabled(pipeline.device.type)],
        "scheduler": dict(pipeline.scheduler.config),
        "prompts": prompts,
        "count": count,
        "size": size,
        "seed": seed,
        "steps": STEPS,
        "guidance_scale": GUIDANCE_SCALE,
    }
    return cached(cache, "class_latents", parts, make)["latents"]


def class_photos(folder: Path, size: tuple[int, int]) -> Tensor:
    """The photos of `folder` as bytes `[N, 3, *size]`, their middle parts of that shape.

    Raises ConfigError where there is none.
    """
    if not folder.is_dir():
        raise ConfigError(f"class_photos: {str(folder)!r} is no folder")
    parts: list[Image.Image] = []
    for path in sorted(folder.iterdir()):
        try:
            photo = open_photo(path).image
        except UnusablePhoto:
            continue
        parts.append(ImageOps.fit(photo, (size[1], size[0]), Image.Resampling.LANCZOS))
    if not parts:
        raise ConfigError(f"class_photos: {str(folder)!r} holds no photo that can be read")
    return pixels(parts)

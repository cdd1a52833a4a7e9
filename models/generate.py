"""Draws one picture with a loaded pipeline: latents from one seed, denoising, decoding."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from models.errors import GenerationFailed
from models.requests import ResolvedRequest
from models.schedulers import make_scheduler

NOT_FINITE = "not_finite"


@torch.no_grad()
def generate_image(
    pipeline: StableDiffusionPipeline,
    scheduler_config: Mapping[str, Any],
    request: ResolvedRequest,
    seed: int,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
) -> Image.Image:
    """The picture of `seed`; `on_step(step, steps)` is called after each denoising step.

    What `on_step` raises stops the picture. The noise comes from a CPU generator of its own in
    fp32, so that a seed means the same on every device and in every dtype.
    Raises GenerationFailed with the code `not_finite` where the numbers left their range.
    """
    # 1. A fresh scheduler: none of its state passes from picture to picture.
    pipeline.scheduler = make_scheduler(request.scheduler, scheduler_config)

    # 2. Noise, [1, C, H/8, W/8].
    generator = torch.Generator("cpu").manual_seed(seed)
    factor = pipeline.vae_scale_factor
    channels = pipeline.unet.config.in_channels
    shape = (1, channels, request.height // factor, request.width // factor)
    noise = torch.randn(shape, generator=generator).to(pipeline.unet.dtype)

    # 3. Denoising.
    def after_step(
        _: StableDiffusionPipeline, index: int, timestep: int, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        on_step(index + 1, pipeline.num_timesteps)
        return tensors

    latents = pipeline(
        request.prompt,
        negative_prompt=request.negative_prompt,
        height=request.height,
        width=request.width,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        generator=generator,
        latents=noise,
        output_type="latent",
        callback_on_step_end=after_step,
    ).images
    _check_finite(latents, "latents")

    # 4. Decoding, [1, 3, H, W] in -1..1.
    decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    _check_finite(decoded, "pixels")
    image: Image.Image = pipeline.image_processor.postprocess(decoded, output_type="pil")[0]
    return image


def _check_finite(values: torch.Tensor, what: str) -> None:
    if not torch.isfinite(values).all():
        raise GenerationFailed(
            f"the {what} left the range of {str(values.dtype).removeprefix('torch.')}; "
            "try another scheduler, a lower guidance_scale or dtype fp32",
            NOT_FINITE,
        )

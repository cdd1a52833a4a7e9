"""Inference made visible: films between seeds and prompts, walks around a seed, one denoising.

`python -m models explore grid --x steps=5,10,25 --y scheduler=ddim,euler --output grid.jpg`
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch import Tensor

from models.catalog import Catalog
from models.pipeline import choose_device, choose_dtype, load_pipeline
from models.prompts import PromptEncoder
from models.requests import ResolvedRequest
from models.sample import step_options, tensor_picture
from models.schedulers import make_scheduler

FILM_BATCH = 16


@dataclass(frozen=True)
class Moment:
    """What the latents `[B, C, h, w]` are at one step of denoising."""

    timestep: int
    """Of the noise in `latents`."""
    latents: Tensor
    denoised: Tensor
    """The U-Net's guess of the clean latents, seen from `latents`."""


def open_pipeline(model: str, catalog: Catalog) -> StableDiffusionPipeline:
    """The weights of `model` on the best device, an adapter with its base."""
    device = choose_device()
    return load_pipeline(model, catalog, device, choose_dtype(device))


def noise_of(seed: int, request: ResolvedRequest, pipeline: StableDiffusionPipeline) -> Tensor:
    """`[1, C, h, w]`: the noise that the engine starts from for `seed`."""
    factor = pipeline.vae_scale_factor
    channels = pipeline.unet.config.in_channels
    shape = (1, channels, request.height // factor, request.width // factor)
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))


def embed(prompts: Sequence[str], pipeline: StableDiffusionPipeline) -> Tensor:
    """`[len(prompts), T, D]`."""
    with torch.inference_mode():
        encoder = PromptEncoder(pipeline.tokenizer, pipeline.text_encoder)
        return encoder.encode(prompts, None)


def slerp(a: Tensor, b: Tensor, share: float, dims: int) -> Tensor:
    """From `a` (share 0) to `b` (share 1) along the great circle, over the last `dims` dimensions.

    Gaussian noise in many dimensions lies on a sphere; the straight line between two draws leaves
    it, and a U-Net has never seen so little noise (White 2016, arXiv 1609.04468).
    """
    flat_a, flat_b = a.float().flatten(-dims), b.float().flatten(-dims)
    cosine = torch.nn.functional.cosine_similarity(flat_a, flat_b, dim=-1).clamp(-1, 1)
    angle = torch.arccos(cosine)[..., None]
    mixed = torch.sin((1 - share) * angle) * flat_a + torch.sin(share * angle) * flat_b
    straight = torch.lerp(flat_a, flat_b, share)
    mixed = torch.where(angle > 1e-4, mixed / torch.sin(angle).clamp(min=1e-8), straight)
    return mixed.view(a.shape).to(a.dtype)


def around(noise: Tensor, radius: float, frames: int, seed: int) -> Tensor:
    """`[frames, C, h, w]`: a closed walk that stays `radius` (an angle) away from `noise`.

    cos(r) n + sin(r) (cos(a) u + sin(a) v) for two other draws u, v and a from 0 to 2 pi.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    u, v = torch.randn((2, *noise.shape[1:]), generator=generator)
    angles = [2 * math.pi * frame / frames for frame in range(frames)]
    walk = [math.cos(angle) * u + math.sin(angle) * v for angle in angles]
    return math.cos(radius) * noise + math.sin(radius) * torch.stack(walk)


@torch.inference_mode()
def denoise(
    pipeline: StableDiffusionPipeline,
    noise: Tensor,
    embeddings: Tensor,
    request: ResolvedRequest,
) -> Iterator[Moment]:
    """Every step from `noise` `[B, C, h, w]` and `embeddings` `[B or 1, T, D]`, then the end."""
    unet = pipeline.unet
    generator = torch.Generator("cpu").manual_seed(request.seeds[0])
    scheduler = make_scheduler(request.scheduler, pipeline.scheduler.config)
    scheduler.set_timesteps(request.steps, device=unet.device)
    latents = noise.to(unet.device) * scheduler.init_noise_sigma
    empty = embed([request.negative_prompt], pipeline).expand(len(noise), -1, -1)
    both = torch.cat([empty, embeddings.expand(len(noise), -1, -1)])
    for timestep in scheduler.timesteps:
        # 1. What the U-Net sees, without and with the prompt.
        seen = scheduler.scale_model_input(latents, timestep).to(unet.dtype)
        predicted = unet(torch.cat([seen, seen]), timestep, both).sample.float()
        # 2. Away from the one, beyond the other (arXiv 2207.12598, eq. 6).
        without, with_prompt = predicted.chunk(2)
        guided = with_prompt
        if request.guidance_scale > 1:
            guided = without + request.guidance_scale * (with_prompt - without)
        # 3. One step to less noise.
        yield moment(scheduler, guided, timestep, latents)
        step = scheduler.step(guided, timestep, latents, **step_options(scheduler, generator))
        latents = step.prev_sample
    yield Moment(0, latents, latents)


def moment(scheduler: Any, predicted: Tensor, timestep: Tensor, latents: Tensor) -> Moment:
    """Where x_t = a x_0 + s e stands when the U-Net has `predicted` noise or velocity.

    x_0 = (x_t - s e) / a, or a x_t - s v (Salimans and Ho 2022, arXiv 2202.00512, app. D).
    Schedulers that count in sigmas hold x_t / a.
    """
    alpha_bar = scheduler.alphas_cumprod[int(timestep)]
    a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    noisy = latents if scheduler.init_noise_sigma == 1 else a * latents
    if scheduler.config.prediction_type == "v_prediction":
        return Moment(int(timestep), noisy, a * noisy - s * predicted)
    return Moment(int(timestep), noisy, (noisy - s * predicted) / a)


@torch.inference_mode()
def pictures(pipeline: StableDiffusionPipeline, latents: Tensor) -> list[Image.Image]:
    """Decoded, one picture for each row of `latents`."""
    vae = pipeline.vae
    decoded = [
        vae.decode(part.to(vae.device, vae.dtype) / vae.config.scaling_factor).sample
        for part in latents.split(FILM_BATCH)
    ]
    return [tensor_picture(pixels) for pixels in torch.cat(decoded)]


def film(
    pipeline: StableDiffusionPipeline, noise: Tensor, embeddings: Tensor, request: ResolvedRequest
) -> list[Image.Image]:
    """One frame for each row of `noise` and of `embeddings`, `FILM_BATCH` frames at a time."""
    frames: list[Image.Image] = []
    for part, prompts in zip(
        noise.split(FILM_BATCH),
        embeddings.expand(len(noise), -1, -1).split(FILM_BATCH),
        strict=True,
    ):
        *_, last = denoise(pipeline, part, prompts, request)
        frames += pictures(pipeline, last.latents)
    return frames


def between_seeds(
    pipeline: StableDiffusionPipeline, stops: Sequence[ResolvedRequest], frames: int
) -> list[Image.Image]:
    """From the picture of each stop's seed to that of the next, `frames` frames apart."""
    noises = [noise_of(stop.seeds[0], stop, pipeline) for stop in stops]
    noise = torch.cat(
        [slerp(noises[i], noises[i + 1], share, 3) for i, share in way(stops, frames)]
    )
    return film(pipeline, noise, embed([stops[0].prompt], pipeline), stops[0])


def between_prompts(
    pipeline: StableDiffusionPipeline, stops: Sequence[ResolvedRequest], frames: int
) -> list[Image.Image]:
    """From each stop's prompt to the next on one noise, each token on its own great circle."""
    texts = embed([stop.prompt for stop in stops], pipeline)
    mixed = torch.stack(
        [slerp(texts[i], texts[i + 1], share, 1) for i, share in way(stops, frames)]
    )
    noise = noise_of(stops[0].seeds[0], stops[0], pipeline).expand(len(mixed), -1, -1, -1)
    return film(pipeline, noise, mixed, stops[0])


def way(stops: Sequence[object], frames: int) -> list[tuple[int, float]]:
    """For each frame of a film over `stops`: the stop it left and its share of the way on."""
    last = len(stops) - 2
    on = [(stop, frame / frames) for stop in range(last + 1) for frame in range(frames)]
    return [*on, (last, 1.0)]


def save_film(frames: Sequence[Image.Image], file: Path, milliseconds: int = 120) -> None:
    """An endless GIF or WebP, as the suffix of `file` says."""
    options: dict[str, Any] = {"quality": 80} if file.suffix.lower() == ".webp" else {}
    frames[0].save(
        file, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, **options
    )

"""One picture on its way from noise to latents, with a scheduler and a generator of its own."""

import inspect
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from models.errors import GenerationFailed
from models.handle import LocalHandle
from models.heat_maps import HeatMaps
from models.requests import ResolvedRequest, WordHeat
from models.residents import Placement
from models.schedulers import make_scheduler

NOT_FINITE = "not_finite"


class Sample:
    """One picture of a request; belongs to the engine's thread once it is `started`."""

    def __init__(self, handle: LocalHandle, index: int, now: float) -> None:
        self.handle = handle
        self.index = index
        self.client = handle.request.client
        self.rows = 2 if handle.request.guidance_scale > 1 else 1
        self.pixels = handle.request.width * handle.request.height
        self.last_turn = now
        self.started: float | None = None
        self.position = 0
        """Denoising steps taken."""
        self.timesteps: list[Tensor] = []
        self.denoised: Tensor | None = None
        """The scheduler's guess of the clean latents, where it makes one."""
        self.heat_maps: HeatMaps | None = None
        self.group: Hashable = None
        self.placement: Placement

    @property
    def request(self) -> ResolvedRequest:
        return self.handle.request

    @property
    def done(self) -> bool:
        return self.started is not None and self.position == len(self.timesteps)

    def place(self, placement: Placement) -> None:
        """Say what it will run on; its group is base, latent shape and length of the prompt."""
        request = self.request
        self.placement = placement
        length = placement.base.prompts.length(request.prompt, request.negative_prompt)
        self.group = (id(placement.base), request.width, request.height, length)

    def start(self, now: float) -> None:
        """Make the scheduler, the noise and the embeddings; the order of diffusers' pipelines.

        The noise comes from a CPU generator of its own in fp32, so that a seed means the same on
        every device, in every dtype and in every company.
        """
        placement = self.placement
        request, pipeline = self.request, placement.base.pipeline
        device = pipeline.unet.device
        self.generator = torch.Generator("cpu").manual_seed(request.seeds[self.index])
        self.scheduler = make_scheduler(request.scheduler, placement.base.scheduler_config)
        self.scheduler.set_timesteps(request.steps, device=device)
        self.extra = step_options(self.scheduler, self.generator)
        prompts = [request.negative_prompt, request.prompt][2 - self.rows :]
        self.embeddings = placement.base.prompts.encode(prompts, placement.adapter)
        factor = pipeline.vae_scale_factor
        channels = pipeline.unet.config.in_channels
        shape = (1, channels, request.height // factor, request.width // factor)
        if request.init_image is None:
            self.timesteps = list(self.scheduler.timesteps)
            noise = torch.randn(shape, generator=self.generator)
            self.latents = to_device(noise, device) * self.scheduler.init_noise_sigma
        else:
            self._start_from_picture(pipeline.vae, shape, request)
        if request.attention:
            self.heat_maps = HeatMaps(*shape[2:])
        self.started = now

    def _start_from_picture(
        self, vae: AutoencoderKL, shape: tuple[int, ...], request: ResolvedRequest
    ) -> None:
        """Noise the picture's latents up to `strength` (SDEdit, Meng et al. 2021, algorithm 1)."""
        assert request.init_image is not None
        scheduler = self.scheduler
        taken = min(int(request.steps * request.strength), request.steps)
        first = (request.steps - taken) * scheduler.order
        self.timesteps = list(scheduler.timesteps[first:])
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        pixels = picture_tensor(request.init_image, request.width, request.height)
        posterior = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
        drawn = torch.randn(shape, generator=self.generator).to(vae.device)
        encoded = posterior.mean.float() + posterior.std.float() * drawn
        noise = torch.randn(shape, generator=self.generator).to(vae.device)
        clean = encoded * vae.config.scaling_factor
        self.latents = scheduler.add_noise(clean, noise, self.timesteps[0][None])

    @property
    def watchers(self) -> list[HeatMaps | None]:
        """Who sees the attention of each row: that of the prompt is the last one."""
        return [None] * (self.rows - 1) + [self.heat_maps]

    def attention(self) -> tuple[WordHeat, ...]:
        """Where the U-Net looked for each word, if that was asked for."""
        if self.heat_maps is None:
            return ()
        return self.heat_maps.of_words(self.placement.base.prompts.words(self.request.prompt))

    def model_input(self) -> Tensor:
        """`[rows, C, h, w]` in fp32, scaled as the scheduler asks."""
        scaled: Tensor = self.scheduler.scale_model_input(
            self.latents, self.timesteps[self.position]
        )
        return scaled.expand(self.rows, -1, -1, -1)

    def advance(self, predicted: Tensor) -> None:
        """Take one step along the U-Net's `predicted` `[rows, C, h, w]` (fp32).

        With guidance e = e_u + s (e_c - e_u) (Ho and Salimans 2022, arXiv 2207.12598, eq. 6).
        Raises GenerationFailed with the code `not_finite` where the numbers left their range.
        """
        if self.rows == 2:
            unconditional, conditional = predicted.chunk(2)
            scale = self.request.guidance_scale
            predicted = unconditional + scale * (conditional - unconditional)
        timestep = self.timesteps[self.position]
        step = self.scheduler.step(predicted, timestep, self.latents, **self.extra)
        self.latents = step.prev_sample
        self.denoised = step.get("pred_original_sample")
        self.position += 1
        check_finite(self.latents, "latents")


def step_options(scheduler: Any, generator: torch.Generator) -> Mapping[str, Any]:
    """What this scheduler's `step` takes beyond the usual, as diffusers' pipelines pass it."""
    accepted = inspect.signature(scheduler.step).parameters
    options = {"eta": 0.0, "generator": generator}
    return {name: value for name, value in options.items() if name in accepted}


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A copy on `device`; to CUDA from pinned memory, so that the thread need not wait."""
    if device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def picture_tensor(picture: Image.Image, width: int, height: int) -> Tensor:
    """`[1, 3, height, width]` in [-1, 1], resized as diffusers' image processor does it."""
    resized = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    values = torch.from_numpy(np.asarray(resized, dtype=np.float32) / 255.0)
    return values.permute(2, 0, 1)[None] * 2 - 1


def tensor_picture(pixels: Tensor) -> Image.Image:
    """`[3, H, W]` in [-1, 1] as an RGB picture."""
    values = ((pixels.float() / 2 + 0.5).clamp(0, 1) * 255).round().byte()
    return Image.fromarray(values.permute(1, 2, 0).cpu().numpy())


def check_finite(values: Tensor, what: str) -> None:
    """Raise GenerationFailed where `values` hold an infinity or a NaN."""
    if not torch.isfinite(values).all():
        raise GenerationFailed(
            f"the {what} left the range of their numbers; "
            "try another scheduler, a lower guidance_scale or dtype fp32",
            NOT_FINITE,
        )

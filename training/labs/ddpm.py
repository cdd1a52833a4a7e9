"""Diffusion in pixels, from scratch: `python -m training.labs.ddpm --breeds "golden retriever"`.

Noise is added to a photo in T steps until nothing of it is left; a network learns to say, at any
step, what was added; from noise alone, the steps are taken back. Ho et al. 2020 (arXiv 2006.11239),
Song et al. 2020 (DDIM, arXiv 2010.02502). Alpha-bar_t, the share of the photo's variance that is
left at step t, is written `a`.
"""

import math
import sys
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from training.checkpoints import Checkpoint
from training.config import ConfigError, check_least
from training.errors import Diverged, Stopped
from training.labs.ddpm_network import HEAD, PATCH, PixelTransformer
from training.labs.diffusion import (
    SCHEDULES,
    Predict,
    denoise,
    diffuse,
    velocity,
)
from training.labs.material import Material, read_material
from training.labs.runs import (
    History,
    chart,
    lerp_average,
    open_run,
    run_lab,
    save_film,
    save_network,
    save_samples,
    smooth,
)
from training.pictures import grid, normalise, pixels, to_pictures
from training.stopping import stop_requests

LEAST_NOISE = 0.05
"""Below this share of noise an error of x_0 counts no more than at it."""
SHOWN = 32
WARMUP = 50


@dataclass(frozen=True)
class DDPMConfig:
    """The options of the command."""

    dataset: Path = Path("artifacts/data/stanford_dogs")
    """A folder that `python -m data prepare` wrote, or any folder of photos."""
    breeds: tuple[str, ...] = ()
    """Of the dataset; all without it. A small network in minutes learns one to three."""
    name: str = "ddpm"
    resolution: int = 32
    schedule: str = "cosine"
    """Of the noise: cosine or linear."""
    target: Literal["v", "epsilon"] = "v"
    """What the network predicts: the velocity, or the noise."""
    timesteps: int = 1000
    """T of the forward process."""
    steps: int = 4700
    batch_size: int = 32
    learning_rate: float = 2e-3
    channels: int = 128
    layers: int = 6
    ema_decay: float = 0.995
    sampling_steps: int = 50
    sample_every: int = 500
    samples: int = 192
    """Pictures that the finished network leaves for `python -m training.labs.scores`."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"schedule: {self.schedule!r} is none of {', '.join(SCHEDULES)}")
        if self.resolution < 8 or self.resolution % PATCH:
            raise ConfigError(f"resolution: {self.resolution} is no multiple of {PATCH} from 8 on")
        if self.channels < HEAD or self.channels % HEAD:
            raise ConfigError(f"channels: {self.channels} is no multiple of {HEAD}")
        least = {"steps": 1, "batch_size": 1, "timesteps": 2, "sampling_steps": 1, "layers": 1}
        check_least(self, least | {"sample_every": 1, "samples": 2})
        if self.sampling_steps > self.timesteps:
            raise ConfigError(
                f"sampling_steps: {self.sampling_steps} is above timesteps ({self.timesteps})"
            )


# Training -------------------------------------------------------------------------------------


class Denoiser(nn.Module):
    """x_t `[B, 3, R, R]` and t `[B]` to the target, v or eps, by way of the photo x_0.

    The transformer says x_0; what is asked for follows from it and x_t.
    """

    def __init__(self, config: DDPMConfig) -> None:
        super().__init__()
        self.network = PixelTransformer(config.resolution, config.channels, config.layers)
        self.target = config.target
        self.schedule: Tensor = SCHEDULES[config.schedule](config.timesteps)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        x0: Tensor = self.network(x, t)
        a = self.schedule[t][:, None, None, None]
        of_noise: Tensor = (1 - a).sqrt().clamp(min=LEAST_NOISE)
        if self.target == "v":
            return (a.sqrt() * x - x0) / of_noise
        return (x - a.sqrt() * x0) / of_noise


def loss_of(predict: Predict, x0: Tensor, t: Tensor, noise: Tensor, a: Tensor, kind: str) -> Tensor:
    """|target - predicted|^2 of each row `[B]` (Ho et al., eq. 14); `a` `[B, 1, 1, 1]` is a_t."""
    target = velocity(x0, noise, a) if kind == "v" else noise
    return (predict(diffuse(x0, noise, a), t) - target).square().mean(dim=(1, 2, 3))


def train(config: DDPMConfig, material: Material, folder: Path) -> tuple[Denoiser, History]:
    """Train for `config.steps`; the averaged network and the curves. Resumes exactly."""
    torch.manual_seed(config.seed)
    random = torch.Generator().manual_seed(config.seed)
    shown = torch.randn(SHOWN, 3, config.resolution, config.resolution, generator=random)
    schedule = SCHEDULES[config.schedule](config.timesteps)
    network = Denoiser(config)
    ema = deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), fused=True
    )
    history = History()
    checkpoint = Checkpoint(
        folder / "state.pt", random, network=network, ema=ema, optimizer=optimizer, history=history
    )
    step = checkpoint.resume()
    with (
        stop_requests() as stop,
        tqdm(total=config.steps, initial=step, desc=config.name, unit="step") as bar,
    ):
        stop.waits, stop.saved = True, step
        while step < config.steps and stop.signal is None:
            started = time.monotonic()
            fall = 0.5 * (1 + math.cos(math.pi * step / config.steps))
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * min(1.0, (step + 1) / WARMUP) * fall
            x0 = normalise(material.draw(config.batch_size, random))
            noise = torch.randn(x0.shape, generator=random)
            t = torch.randint(config.timesteps, (len(x0),), generator=random)
            a = schedule[t][:, None, None, None]
            loss = loss_of(network, x0, t, noise, a, config.target).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            step += 1
            lerp_average(ema, network, config.ema_decay, step)

            row = {"step": step, "loss": loss.item()}
            if not math.isfinite(row["loss"]):
                raise Diverged(f"the loss is {row['loss']} at step {step}: lower learning_rate")
            history.rows.append(row)
            history.seconds += time.monotonic() - started
            bar.update()
            bar.set_postfix(loss=f"{row['loss']:.4f}")
            if step % config.sample_every == 0 or step == config.steps:
                row["held_out"] = held_out_loss(ema, material, schedule, config.target)
                *_, (_, _, pictures) = denoise(ema, shown, schedule, config.target, 25)
                frame = folder / "frames" / f"{step:06d}.png"
                frame.parent.mkdir(exist_ok=True)
                grid(to_pictures(pictures), 8).save(frame)
                checkpoint.save(step)
                stop.saved = step
        if stop.signal is not None:
            checkpoint.save(step)
            raise Stopped(stop.signal, step)
    return ema, history


@torch.no_grad()
def held_out_loss(predict: Predict, material: Material, schedule: Tensor, target: str) -> float:
    """The loss on photos that are not trained on, with noise and timesteps that never change."""
    x0 = normalise(material.held_out[:128])
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0, len(schedule) - 1, len(x0)).long()
    return loss_of(predict, x0, t, noise, schedule[t][:, None, None, None], target).mean().item()


# What came of it ------------------------------------------------------------------------------


def draw(
    network: Denoiser, config: DDPMConfig, count: int, seed: int, eta: float = 0.0
) -> list[Image.Image]:
    """`count` pictures, batch by batch."""
    random = torch.Generator().manual_seed(seed)
    schedule = SCHEDULES[config.schedule](config.timesteps)
    noise = torch.randn(count, 3, config.resolution, config.resolution, generator=random)
    made = []
    for part in tqdm(noise.split(64), desc="samples", unit="batch"):
        *_, (_, _, x0) = denoise(
            network, part, schedule, config.target, config.sampling_steps, eta, random
        )
        made += to_pictures(x0)
    return made


def trajectory(
    network: Denoiser, config: DDPMConfig, seed: int, rows: int = 4
) -> list[Image.Image]:
    """The way from noise to `rows` pictures, a frame a step: x_t above, x_0 as seen then below."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, config.resolution, config.resolution, generator=random)
    schedule = SCHEDULES[config.schedule](config.timesteps)
    path = denoise(network, x, schedule, config.target, config.sampling_steps)
    return [grid(to_pictures(torch.cat([xt.clamp(-1, 1), x0])), rows) for _, xt, x0 in path]


def load_denoiser(config: DDPMConfig, folder: Path) -> Denoiser:
    """The averaged network of a finished run."""
    network = Denoiser(config)
    network.load_state_dict(load_file(folder / "network.safetensors"))
    return network


def run(config: DDPMConfig, home: Path) -> Path:
    """Train, and write into `home`/NAME: the network, frames, films, curves, samples."""
    material = read_material(config.dataset, config.breeds, config.resolution)
    folder = home / config.name
    open_run(folder, config, material.fingerprint)
    network, history = train(config, material, folder)
    save_network(network, folder / "network.safetensors")
    save_film([Image.open(p) for p in sorted((folder / "frames").iterdir())], folder / "film.webp")
    save_film(trajectory(network, config, config.seed), folder / "denoising.webp")
    curves(history).savefig(folder / "curves.png", dpi=90)
    save_samples(
        folder, pixels(draw(network, config, config.samples, config.seed)), history, material.names
    )
    return folder


def curves(history: History) -> Figure:
    """The loss over the steps, on training batches and on held-out photos."""
    steps, losses = history.curve("loss")
    lines = {"training": (steps, smooth(losses)), "held out": history.curve("held_out")}
    return chart({"loss": lines})


if __name__ == "__main__":
    sys.exit(run_lab(DDPMConfig, run, "training.labs.ddpm", __doc__))

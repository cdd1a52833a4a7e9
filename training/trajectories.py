"""A teacher's way from noise to pictures, kept at the points where a student is to follow it.

Noise levels are angles: x_t = cos(a_t) x_0 + sin(a_t) noise. A DDIM step is then a rotation by the
velocity, x_s = cos(a_t - a_s) x_t - sin(a_t - a_s) v_t (Salimans and Ho 2022, arXiv 2202.00512,
appendix D), which can be solved for the velocity that lands on a given x_s.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from torch import Tensor
from tqdm import tqdm

from training.checkpoints import load_state, save_state
from training.config import ConfigError

PART = 64
"""Trajectories that the teacher draws together, and that one file holds."""

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(latents `[B, C, h, w]`, timesteps `[B]`, texts `[B]`) to velocities `[B, C, h, w]` in fp32."""


@dataclass(frozen=True)
class NoiseLevels:
    """Noise levels at even distances, from pure noise to none: those of `ddim_trailing`."""

    timesteps: Tensor
    """`[n]`: where the network is asked."""
    angles: Tensor
    """`[n + 1]`, the last one where the last step ends."""

    def step(self, latents: Tensor, velocity: Tensor, index: Tensor) -> Tensor:
        """One DDIM step of each latent `[B, C, h, w]`, from level `index` `[B]` to the next."""
        turn = self._turn(index)
        return turn.cos() * latents - turn.sin() * velocity

    def velocity_between(self, latents: Tensor, landed: Tensor, index: Tensor) -> Tensor:
        """The velocity whose `step` from `latents` lands on `landed`."""
        turn = self._turn(index)
        return (turn.cos() * latents - landed) / turn.sin()

    def _turn(self, index: Tensor) -> Tensor:
        turn: Tensor = (self.angles[index] - self.angles[index + 1])[:, None, None, None]
        return turn


def noise_levels(scheduler: DDIMScheduler, count: int, device: torch.device) -> NoiseLevels:
    """`count` levels of the base's noise schedule; ConfigError where they do not divide it."""
    total = scheduler.config.num_train_timesteps
    if total % count:
        raise ConfigError(
            f"points x teacher_steps: {count} steps do not divide the base's {total} noise levels"
        )
    timesteps = torch.arange(total, 0, -total // count) - 1
    signal = [scheduler.alphas_cumprod[timesteps], scheduler.final_alpha_cumprod[None]]
    angles = torch.cat(signal).double().sqrt().acos().float()
    return NoiseLevels(timesteps.to(device), angles.to(device))


@dataclass(frozen=True)
class Trajectories:
    """Pictures of a teacher on their way, and what each was told to show."""

    states: Tensor
    """`[N, points + 1, C, h, w]` in fp32: noise first, the clean latents last."""
    texts: Tensor
    """`[N]`: the row of each one's prompt."""

    def part(self, rows: slice) -> "Trajectories":
        """Some of them."""
        return Trajectories(self.states[rows], self.texts[rows])


@torch.no_grad()
def draw_trajectories(
    velocity: Velocity,
    levels: NoiseLevels,
    every: int,
    shape: tuple[int, ...],
    groups: list[list[int]],
    count: int,
    seed: int,
    folder: Path,
) -> Trajectories:
    """`count` trajectories from noise of `shape`, kept at every `every`-th of `levels`.

    Each shows one text of one of `groups`, all drawn alike. What `folder` holds already, of a run
    that was stopped, is not drawn again.
    """
    device = levels.timesteps.device
    parts = []
    for number, start in enumerate(tqdm(range(0, count, PART), desc="teacher", unit="part")):
        path = folder / f"{number:04d}.pt"
        part = load_state(path)
        if part is None:
            rows = min(PART, count - start)
            generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
            chosen = torch.randint(len(groups), (rows,), generator=generator).tolist()
            places = torch.rand(rows, generator=generator).tolist()
            texts = torch.tensor(
                [groups[g][int(p * len(groups[g]))] for g, p in zip(chosen, places, strict=True)]
            )
            latents = torch.randn(rows, *shape, generator=generator).to(device)
            states = [latents]
            for step, timestep in enumerate(levels.timesteps):
                found = velocity(latents, timestep.expand(rows), texts)
                latents = levels.step(latents, found, torch.full((rows,), step, device=device))
                if (step + 1) % every == 0:
                    states.append(latents)
            part = {"states": torch.stack(states, dim=1).cpu(), "texts": texts}
            save_state(path, part)
        parts.append(part)
    return Trajectories(*(torch.cat([part[key] for part in parts]) for key in ("states", "texts")))

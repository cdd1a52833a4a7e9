"""The maths of diffusion, in the order of the papers: noise, targets, and the way back.

Noise is added to a photo in T steps until nothing of it is left; from noise alone, the steps are
taken back. Ho et al. 2020 (arXiv 2006.11239), Song et al. 2020 (DDIM, arXiv 2010.02502).
Alpha-bar_t, the share of the photo's variance that is left at step t, is written `a`.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

# Forward: how a photo becomes noise -----------------------------------------------------------


def linear_schedule(timesteps: int) -> Tensor:
    """a_t = prod_s (1 - beta_s), beta from 1e-4 to 0.02 for T = 1000 (Ho et al., section 4)."""
    scale = 1000 / timesteps
    betas = torch.linspace(1e-4 * scale, 0.02 * scale, timesteps, dtype=torch.float64)
    return (1 - betas.clamp(max=0.999)).cumprod(dim=0).float()


def cosine_schedule(timesteps: int) -> Tensor:
    """a_t = f(t) / f(0), f(t) = cos^2(pi/2 (t/T + s) / (1 + s)) (arXiv 2102.09672, eq. 17).

    The linear one destroys small pictures early: its last fifth is noise and teaches nothing.
    """
    s = 0.008
    t = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    f = torch.cos((t + s) / (1 + s) * math.pi / 2).square()
    betas = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return (1 - betas).cumprod(dim=0).float()


SCHEDULES = {"cosine": cosine_schedule, "linear": linear_schedule}


def diffuse(x0: Tensor, noise: Tensor, a: Tensor) -> Tensor:
    """x_t = sqrt(a) x_0 + sqrt(1 - a) eps (Ho et al., eq. 4); its variance stays 1 if x_0's is."""
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def velocity(x0: Tensor, noise: Tensor, a: Tensor) -> Tensor:
    """v = sqrt(a) eps - sqrt(1 - a) x_0 (arXiv 2202.00512): x_t turned by a right angle.

    Nearly the noise where little of it is there, nearly the photo where it is all: never a thing
    that the network can simply copy from its input.
    """
    return a.sqrt() * noise - (1 - a).sqrt() * x0


def split(x: Tensor, predicted: Tensor, a: Tensor, target: str) -> tuple[Tensor, Tensor]:
    """The (x_0, eps) that x_t would be made of, were the prediction of `target` right."""
    if target == "v":
        return a.sqrt() * x - (1 - a).sqrt() * predicted, (1 - a).sqrt() * x + a.sqrt() * predicted
    return (x - (1 - a).sqrt() * predicted) / a.sqrt(), predicted


# Backward: how noise becomes a photo ----------------------------------------------------------

Predict = Callable[[Tensor, Tensor], Tensor]
"""x_t `[B, 3, R, R]` and t `[B]` to the target `[B, 3, R, R]`."""


def ddim_step(x0: Tensor, eps: Tensor, a: Tensor, to: Tensor, noise: Tensor, eta: float) -> Tensor:
    """From alpha-bar `a` to `to` (Song et al., eqs. 12 and 16).

    eta = 0 adds no noise: the same start gives the same picture. With eta = 1 and every t it is
    DDPM's step, with the variance of the true posterior.
    """
    sigma = eta * ((1 - to) / (1 - a)).sqrt() * (1 - a / to).clamp(min=0).sqrt()
    return to.sqrt() * x0 + (1 - to - sigma**2).clamp(min=0).sqrt() * eps + sigma * noise


def timestep_path(timesteps: int, steps: int) -> list[int]:
    """The `steps` values of t that are visited, from T - 1 to 0."""
    return torch.linspace(timesteps - 1, 0, steps).round().long().tolist()


@torch.no_grad()
def denoise(
    predict: Predict,
    x: Tensor,
    schedule: Tensor,
    target: str,
    steps: int,
    eta: float = 0.0,
    random: torch.Generator | None = None,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Noise `[B, 3, R, R]` step by step to pictures: (t, x_t, the x_0 that is seen in it).

    The last of them is (-1, x_0, x_0). x_0 is held within what a picture can be, [-1, 1].
    """
    path = timestep_path(len(schedule), steps)
    for t, following in zip(path, [*path[1:], -1], strict=True):
        a = schedule[t]
        to = schedule[following] if following >= 0 else torch.ones(())
        predicted = predict(x, torch.full((len(x),), t))
        x0 = split(x, predicted, a, target)[0].clamp(-1, 1)
        eps = (x - a.sqrt() * x0) / (1 - a).sqrt()
        yield t, x, x0
        noise = torch.randn(x.shape, generator=random) if eta else torch.zeros_like(x)
        x = ddim_step(x0, eps, a, to, noise, eta)
    yield -1, x, x


@torch.no_grad()
def invert(predict: Predict, x: Tensor, schedule: Tensor, target: str, steps: int) -> Tensor:
    """Pictures `[B, 3, R, R]` to the noise that DDIM would make them of: its steps, upwards."""
    path = timestep_path(len(schedule), steps)[::-1]
    for t, following in pairwise(path):
        x0, eps = split(x, predict(x, torch.full((len(x),), t)), schedule[t], target)
        x = ddim_step(x0, eps, schedule[t], schedule[following], torch.zeros_like(x), 0.0)
    return x

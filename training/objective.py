"""The maths of one training step: noise, targets, weights, loss."""

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from training.config import ConfigError


def draw_noise(shape: torch.Size, offset: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise `[B, C, h, w]`; with an offset, plus offset * N(0, 1) for each channel."""
    noise = torch.randn(shape, generator=generator)
    if offset:
        noise = noise + offset * torch.randn(*shape[:2], 1, 1, generator=generator)
    return noise


def target_of(
    scheduler: DDPMScheduler, latents: Tensor, noise: Tensor, timesteps: Tensor
) -> Tensor:
    """What the base was trained to predict: the noise, or the velocity (arXiv 2202.00512)."""
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        velocity: Tensor = scheduler.get_velocity(latents, noise, timesteps)
        return velocity
    raise ConfigError(f"base: its prediction_type {kind!r} is neither epsilon nor v_prediction")


def min_snr_weights(scheduler: DDPMScheduler, timesteps: Tensor, gamma: float | None) -> Tensor:
    """The weight of each row `[B]`: min(SNR, gamma) over what the target already holds of it.

    Hang et al. (arXiv 2303.09556, section 3.4) weigh the error of x_0 by min(SNR, gamma). The error
    of the noise is SNR times that of x_0, the error of the velocity SNR + 1 times, hence the
    divisors. Without gamma all weights are 1.
    """
    if gamma is None:
        return torch.ones(len(timesteps), device=timesteps.device)
    signal: Tensor = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    snr = signal / (1 - signal)
    divisor = snr if scheduler.config.prediction_type == "epsilon" else snr + 1
    return snr.clamp(max=gamma) / divisor


def weighted_errors(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean squared error of each row `[B]`, in fp32."""
    errors = (predicted.float() - target.float()).square().mean(dim=(1, 2, 3))
    return errors * weights


def dreambooth_loss(
    errors: Tensor, instance_rows: int, total_rows: int, prior_loss_weight: float
) -> Tensor:
    """L = E|instance|^2 + lambda * E|class|^2 (arXiv 2208.12242, eq. 2), one micro-batch's part.

    The first `instance_rows` of `errors` are of the subject, the others of the class; a step has
    `total_rows` of each, so that the parts of its micro-batches sum to its loss.
    """
    instance, prior = errors[:instance_rows].sum(), errors[instance_rows:].sum()
    return (instance + prior_loss_weight * prior) / total_rows

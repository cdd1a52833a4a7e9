import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from training.objective import (
    draw_noise,
    dreambooth_loss,
    min_snr_weights,
    target_of,
    weighted_errors,
)

TIMESTEPS = torch.tensor([0, 10, 400, 900, 999])


def scheduler(kind: str) -> DDPMScheduler:
    return DDPMScheduler(prediction_type=kind, beta_schedule="scaled_linear")


def test_the_target_is_what_the_base_predicts() -> None:
    latents, noise = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4)
    timesteps = torch.tensor([10, 900])
    epsilon = DDPMScheduler(prediction_type="epsilon")
    assert torch.equal(target_of(epsilon, latents, noise, timesteps), noise)
    velocity = DDPMScheduler(prediction_type="v_prediction")
    a = velocity.alphas_cumprod[timesteps].sqrt()[:, None, None, None]
    s = (1 - velocity.alphas_cumprod[timesteps]).sqrt()[:, None, None, None]
    expected = a * noise - s * latents
    torch.testing.assert_close(target_of(velocity, latents, noise, timesteps), expected)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_min_snr_weighs_the_error_of_the_picture_alike_whatever_is_predicted(kind: str) -> None:
    """Hang et al.: whatever the network predicts, the error of x_0 weighs min(SNR, gamma)."""
    base = scheduler(kind)
    latents, noise = torch.randn(5, 4, 4, 4).double(), torch.randn(5, 4, 4, 4).double()
    base.alphas_cumprod = base.alphas_cumprod.double()
    noisy = base.add_noise(latents, noise, TIMESTEPS)
    wrong = target_of(base, latents, noise, TIMESTEPS) + 0.1 * torch.randn_like(latents)
    alpha = base.alphas_cumprod[TIMESTEPS].sqrt()[:, None, None, None]
    sigma = (1 - base.alphas_cumprod[TIMESTEPS]).sqrt()[:, None, None, None]
    if kind == "epsilon":
        picture = (noisy - sigma * wrong) / alpha
    else:
        picture = alpha * noisy - sigma * wrong
    of_picture = (picture - latents).square().mean(dim=(1, 2, 3))
    snr = compute_snr(base, TIMESTEPS)
    target = target_of(base, latents, noise, TIMESTEPS)
    ours = weighted_errors(wrong, target, min_snr_weights(base, TIMESTEPS, 5.0))
    expected = of_picture * snr.clamp(max=5.0)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=0, check_dtype=False)


def test_without_gamma_all_timesteps_weigh_alike() -> None:
    weights = min_snr_weights(scheduler("epsilon"), TIMESTEPS, None)
    assert torch.equal(weights, torch.ones(5))


def test_offset_noise_is_constant_over_each_channel() -> None:
    shape = torch.Size((2, 3, 4, 4))
    plain = draw_noise(shape, 0.0, torch.Generator().manual_seed(0))
    offset = draw_noise(shape, 0.5, torch.Generator().manual_seed(0)) - plain
    assert torch.allclose(offset, offset[:, :, :1, :1].expand(shape), atol=1e-6)
    assert offset.std() > 0.1


def test_the_parts_of_micro_batches_sum_to_the_loss_of_the_step() -> None:
    errors = torch.rand(8)
    instance, prior = errors[:4], errors[4:]
    whole = instance.mean() + 0.5 * prior.mean()
    parts = [
        dreambooth_loss(torch.cat([instance[rows], prior[rows]]), len(instance[rows]), 4, 0.5)
        for rows in (slice(0, 3), slice(3, 4))
    ]
    torch.testing.assert_close(sum(parts), whole)
    torch.testing.assert_close(dreambooth_loss(errors, 4, 4, 0.5), whole)

import math

import pytest
import torch
from torch import Tensor

from training.labs.diffusion import (
    SCHEDULES,
    Predict,
    cosine_schedule,
    ddim_step,
    denoise,
    diffuse,
    invert,
    linear_schedule,
    split,
    velocity,
)

NO_NOISE = torch.zeros(())


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_falls_from_nearly_all_photo_to_nearly_all_noise(name: str) -> None:
    schedule = SCHEDULES[name](1000)
    assert (schedule.diff() < 0).all()
    assert schedule[0] > 0.999
    assert 0 < schedule[-1] < 1e-4


def test_the_linear_schedule_is_the_product_of_one_minus_beta() -> None:
    left = 1.0
    for t in range(1000):
        left *= 1 - (1e-4 + t * (0.02 - 1e-4) / 999)
        assert linear_schedule(1000)[t].item() == pytest.approx(left, rel=1e-4) or t % 250


def test_the_cosine_schedule_is_half_way_where_its_formula_is() -> None:
    f = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in (0, 500)]
    assert cosine_schedule(1000)[499].item() == pytest.approx(f[1] / f[0], rel=1e-4)


def test_the_forward_process_keeps_the_variance_of_standard_pictures() -> None:
    x0, noise = normal(64, 3, 32, 32), normal(64, 3, 32, 32, seed=1)
    for a in (0.9, 0.5, 0.1):
        noisy = diffuse(x0, noise, torch.tensor(a))
        assert noisy.var().item() == pytest.approx(1, abs=0.02)
        correlation = (noisy * x0).mean().item()
        assert correlation == pytest.approx(math.sqrt(a), abs=0.02)


def test_many_small_steps_come_to_the_one_step_of_the_closed_form() -> None:
    schedule = linear_schedule(50)
    x, previous = torch.full((200_000,), 2.0), torch.ones(())
    for t, a in enumerate(schedule[:20]):
        x = diffuse(x, normal(len(x), seed=t), a / previous)
        previous = a
    assert x.mean().item() == pytest.approx(2 * schedule[19].sqrt().item(), abs=0.01)
    assert x.var().item() == pytest.approx(1 - schedule[19].item(), abs=0.01)


@pytest.mark.parametrize("target", ["v", "epsilon"])
def test_a_right_prediction_gives_back_photo_and_noise(target: str) -> None:
    x0, noise, a = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1), torch.tensor(0.3)
    predicted = velocity(x0, noise, a) if target == "v" else noise
    found_x0, found_noise = split(diffuse(x0, noise, a), predicted, a, target)
    torch.testing.assert_close(found_x0, x0)
    torch.testing.assert_close(found_noise, noise)


def test_velocity_is_the_derivative_of_the_noisy_picture_by_its_angle() -> None:
    x0, noise, angle = normal(4), normal(4, seed=1), torch.tensor(0.7, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(
        lambda phi: diffuse(x0, noise, phi.cos().square()), angle
    )
    torch.testing.assert_close(jacobian, velocity(x0, noise, angle.detach().cos().square()))


def test_a_step_of_ddim_with_the_right_noise_lands_on_the_forward_process() -> None:
    x0, noise, to = normal(8), normal(8, seed=1), torch.tensor(0.8)
    landed = ddim_step(x0, noise, torch.tensor(0.3), to, NO_NOISE, eta=0.0)
    torch.testing.assert_close(landed, diffuse(x0, noise, to))


def test_with_eta_one_a_step_has_the_mean_and_variance_of_ddpms_posterior() -> None:
    """Ho et al., equation 7."""
    schedule = linear_schedule(1000)
    a, to, x0, eps = schedule[500], schedule[499], torch.tensor(0.4), torch.tensor(-1.1)
    x, beta = diffuse(x0, eps, a), 1 - a / to
    mean = to.sqrt() * beta / (1 - a) * x0 + (1 - beta).sqrt() * (1 - to) / (1 - a) * x
    stepped = ddim_step(x0, eps, a, to, normal(100_000), eta=1.0)
    variance = ((1 - to) / (1 - a) * beta).item()
    assert stepped.mean().item() == pytest.approx(mean.item(), abs=5 * math.sqrt(variance / 1e5))
    assert stepped.var().item() == pytest.approx(variance, rel=0.02)


def gaussian_predictor(schedule: Tensor, spread: float) -> Predict:
    """What the best network predicts of pixels N(0, spread^2): E[eps | x_t], in closed form."""

    def predict(x: Tensor, t: Tensor) -> Tensor:
        a = schedule[t][:, None, None, None]
        return (1 - a).sqrt() * x / (a * spread**2 + 1 - a)

    return predict


def test_noise_denoised_with_the_best_prediction_has_the_datas_spread() -> None:
    schedule = cosine_schedule(1000)
    predict = gaussian_predictor(schedule, 0.25)
    *_, (t, pictures, _) = denoise(predict, normal(8, 3, 16, 16), schedule, "epsilon", 200)
    assert t == -1
    assert pictures.std().item() == pytest.approx(0.25, abs=0.02)


def test_a_picture_inverted_to_noise_is_drawn_again_from_it() -> None:
    schedule = cosine_schedule(1000)
    predict = gaussian_predictor(schedule, 0.25)
    pictures = 0.25 * normal(2, 3, 8, 8)
    noise = invert(predict, pictures, schedule, "epsilon", 500)
    assert noise.std().item() == pytest.approx(1, abs=0.1)
    *_, (_, again, _) = denoise(predict, noise, schedule, "epsilon", 500)
    torch.testing.assert_close(again, pictures, atol=0.02, rtol=0.05)

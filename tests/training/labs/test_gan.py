import pytest
import torch
from torch import Tensor, nn

from training.labs.augmentation import AUGMENTATIONS, augment
from training.labs.gan import (
    GANConfig,
    collapse_indicators,
    discriminator_loss,
    generator_loss,
    slerp,
)
from training.labs.gan_networks import Discriminator, Generator, critic
from training.labs.material import Material


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uniform(rows: int, seed: int = 0) -> Tensor:
    return torch.rand(rows, 7, generator=torch.Generator().manual_seed(seed))


def test_the_hinge_losses_count_only_what_is_within_the_margin() -> None:
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 0.5])
    assert discriminator_loss(real, fake).item() == pytest.approx((0 + 0.5 + 2 + 0 + 1 + 1.5) / 3)
    assert generator_loss(fake).item() == pytest.approx(2.5 / 3)


def test_no_layer_of_a_critic_stretches_more_than_its_spectral_norm_allows() -> None:
    torch.manual_seed(0)
    network = critic(3, 16, 64)
    for _ in range(200):  # power iteration, one step a forward pass
        network(torch.zeros(1, 3, 16, 16))
    for layer in network.eval():
        if isinstance(layer, nn.Conv2d):
            largest = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
            assert largest.item() == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_generator_and_discriminator_fit_at_each_resolution(resolution: int) -> None:
    torch.manual_seed(0)
    pictures = Generator(resolution, 8)(normal(2, 8))
    assert pictures.shape == (2, 3, resolution, resolution)
    assert pictures.abs().max() <= 1
    logits = Discriminator(resolution, "none")(pictures)
    assert logits.shape == (2, 16)


def test_the_features_of_the_discriminator_stay_as_they_were_and_let_the_gradient_through() -> None:
    torch.manual_seed(0)
    d = Discriminator(32, "efficientnet")
    pictures = normal(2, 3, 32, 32).requires_grad_()
    d(pictures).mean().backward()
    assert pictures.grad is not None
    assert pictures.grad.abs().sum() > 0
    assert d.network is not None
    assert all(p.grad is None for p in d.network.parameters())
    assert all(p.grad is not None for p in d.critics.parameters())


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_is_differentiable_and_its_gradient_is_right(name: str) -> None:
    x = normal(2, 3, 8, 8).double().requires_grad_()
    u = uniform(2).double()
    assert torch.autograd.gradcheck(lambda x: augment(x, u, [name]), x)
    assert not torch.equal(augment(x, u, [name]), x)


def test_real_and_fake_meet_the_same_augmentation_where_the_numbers_are_the_same() -> None:
    x, u = normal(2, 3, 16, 16), uniform(2)
    both = augment(torch.cat([x, x]), torch.cat([u, u]), list(AUGMENTATIONS))
    assert torch.equal(both[:2], both[2:])
    assert not torch.equal(both[0], augment(x, uniform(2, seed=1), list(AUGMENTATIONS))[0])


def test_colour_in_the_middle_of_its_range_changes_nothing() -> None:
    x = normal(2, 3, 8, 8)
    torch.testing.assert_close(augment(x, torch.full((2, 7), 0.5), ["colour"]), x)


def test_translation_shifts_by_whole_pixels_and_fills_with_zeros() -> None:
    x = normal(1, 3, 16, 16)
    u = torch.full((1, 7), 0.5)
    assert torch.equal(augment(x, u, ["translation"]), x)
    u[0, 3] = 0.999  # two rows further down the padded picture
    shifted = augment(x, u, ["translation"])
    assert torch.equal(shifted[:, :, :-2], x[:, :, 2:])
    assert not shifted[:, :, -2:].any()


def test_cutout_takes_a_square_of_half_the_side() -> None:
    left = augment(torch.ones(1, 3, 16, 16), torch.full((1, 7), 0.5), ["cutout"])
    assert (left == 0).sum() == 3 * 8 * 8
    assert left[0, 0, :4].all()


def noise_material() -> Material:
    random = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (40, 3, 18, 18), generator=random, dtype=torch.uint8)
    return Material(pictures[:24], torch.ones(24), pictures[24:, :, 1:17, 1:17], ["pug"], 16)


def test_the_signs_of_collapse_are_one_for_photos_and_low_for_one_picture() -> None:
    material = noise_material()
    as_photos = collapse_indicators(material.held_out, material)
    assert as_photos == pytest.approx({"spread": 1, "photos_met": 1})
    one = material.held_out[:1].expand(16, -1, -1, -1)
    collapsed = collapse_indicators(one, material)
    assert collapsed["spread"] == pytest.approx(0, abs=1e-3)
    assert collapsed["photos_met"] < 0.5


def test_slerp_stays_on_the_sphere() -> None:
    a, b = normal(64), normal(64, seed=1)
    a, b = a / a.norm(), b / b.norm()
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    assert slerp(a, b, 0.3).norm().item() == pytest.approx(1)


def test_an_unknown_augmentation_and_a_resolution_that_is_no_size_are_refused() -> None:
    with pytest.raises(ValueError, match="augment: rotation is none of"):
        GANConfig(augment=("rotation",))
    with pytest.raises(ValueError, match="resolution: 48"):
        GANConfig(resolution=48)

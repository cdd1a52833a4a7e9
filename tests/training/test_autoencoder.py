from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.conftest import draw_dog
from training.autoencoder import (
    AutoencoderConfig,
    build_autoencoder,
    encode_means,
    fold_statistics,
    neighbour_correlation,
    train_autoencoder,
    warm_cosine,
)
from training.checkpoints import save_state
from training.pictures import normalise, pixels

TINY = AutoencoderConfig(
    channels=(8, 8, 8, 8), latent_channels=4, crop=64, batch_size=2, steps=4, checkpoint_every=2
)


def save_and_stop(path: Path, state: Mapping[str, Any]) -> None:
    """What a kill right after the first checkpoint leaves."""
    save_state(path, state)
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return pixels([draw_dog(seed).resize((72, 72)) for seed in range(8)])


def test_folding_gives_latents_their_deviations_and_keeps_the_pictures(pictures: Tensor) -> None:
    torch.manual_seed(0)
    vae = build_autoencoder(TINY, 72).eval()
    x = normalise(pictures)
    with torch.no_grad():
        before = vae.encode(x).latent_dist
        decoded = vae.decode(before.mean).sample
        fold_statistics(vae, before.mean, evenness=0.5)
        after = vae.encode(x).latent_dist
        again = vae.decode(after.mean).sample
    torch.testing.assert_close(after.mean.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    natural = before.mean.std(dim=(0, 2, 3))
    wanted = natural.sqrt() / natural.mean().sqrt()
    torch.testing.assert_close(after.mean.std(dim=(0, 2, 3)), wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(again, decoded, atol=1e-4, rtol=1e-3)
    spread = (before.mean.std(dim=(0, 2, 3)) / wanted)[:, None, None]
    torch.testing.assert_close(after.std * spread, before.std, atol=1e-4, rtol=1e-3)


def test_an_untrained_autoencoder_passes_the_shrunk_picture_on() -> None:
    torch.manual_seed(0)
    vae = build_autoencoder(TINY, 72).eval()
    tiles = torch.rand(2, 3, 6, 6) * 2 - 1
    pictures = tiles.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    with torch.no_grad():
        latents = vae.encode(pictures).latent_dist.mean
        decoded = vae.decode(latents).sample
    assert correlation(latents[:, :3], tiles) > 0.99
    assert correlation(decoded, pictures) > 0.95


def correlation(a: Tensor, b: Tensor) -> float:
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def test_training_goes_on_after_a_stop_as_if_never_stopped(
    pictures: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = pictures[6:, :, :64, :64]
    whole = train_autoencoder(pictures[:6], held_out, TINY, 0, tmp_path / "a")

    with monkeypatch.context() as patch:
        patch.setattr("training.checkpoints.save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_autoencoder(pictures[:6], held_out, TINY, 0, tmp_path / "b")
    resumed = train_autoencoder(pictures[:6], held_out, TINY, 0, tmp_path / "b")
    untrained = build_autoencoder(TINY, 72)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert not torch.equal(encode_means(whole, pictures), encode_means(untrained, pictures))
    assert (tmp_path / "a" / "samples" / "autoencoder-000004.png").exists()


def test_neighbour_correlation_tells_pictures_from_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4, 3, 64, 64, generator=generator)
    ramp = torch.linspace(-1, 1, 64).expand(2, 1, 64, 64)
    assert abs(neighbour_correlation(noise)) < 0.03
    assert neighbour_correlation(ramp) > 0.95


def test_the_rate_rises_and_ends_at_zero() -> None:
    factor = warm_cosine(1000, warmup=10)
    assert factor(0) == pytest.approx(0.1)
    assert factor(500) == pytest.approx(0.5)
    assert factor(1000) == pytest.approx(0)


def test_a_crop_that_the_latents_cannot_halve_is_refused() -> None:
    with pytest.raises(ValueError, match=r"autoencoder.crop: 72"):
        AutoencoderConfig(crop=72)

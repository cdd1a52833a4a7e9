import torch
from torch.nn import functional as F

from tests.training.conftest import draw_dog
from training.autoencoder import AutoencoderConfig, build_autoencoder
from training.growth import grow
from training.pictures import normalise, pixels

CONFIG = AutoencoderConfig(channels=(8, 8, 16), latent_channels=4)


@torch.no_grad()
def test_a_grown_autoencoder_starts_where_the_small_one_was() -> None:
    torch.manual_seed(0)
    small = build_autoencoder(CONFIG, 32).eval()
    grown = grow(small).eval()
    pictures = normalise(pixels([draw_dog(seed, 64) for seed in range(4)]))
    latents = small.encode(F.avg_pool2d(pictures, 2)).latent_dist.mean
    again = grown.encode(pictures).latent_dist.mean
    assert again.shape == latents.shape
    assert correlation(again, latents) > 0.6
    decoded = grown.decode(latents).sample
    assert decoded.shape == (4, 3, 64, 64)
    assert correlation(F.avg_pool2d(decoded, 2), small.decode(latents).sample) > 0.6
    assert grown.config.sample_size == 64


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()

import torch
from diffusers import StableDiffusionPipeline

from tests.training.conftest import draw_dog
from tests.training.test_autoencoder import TINY
from training.autoencoder import build_autoencoder, encode_means, fold_statistics
from training.base_unet import UNetConfig, build_scheduler, build_unet
from training.pictures import pixels
from training.transplant import linear_map, transplant


def test_a_linear_map_is_found_again() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(4, 3, 8, 8, generator=generator)
    weights = torch.randn(5, 3, generator=generator)
    mapped = torch.einsum("ij,njhw->nihw", weights, latents)
    torch.testing.assert_close(linear_map(latents, mapped), weights)


def test_a_u_net_draws_the_same_on_latents_that_are_a_rotation_of_its_own() -> None:
    torch.manual_seed(0)
    pictures = pixels([draw_dog(seed).resize((64, 64)) for seed in range(6)])
    old = build_autoencoder(TINY, 64).eval()
    fold_statistics(old, encode_means(old, pictures))
    new = build_autoencoder(TINY, 64).eval()
    new.load_state_dict(old.state_dict())
    turn, _ = torch.linalg.qr(torch.randn(4, 4))
    with torch.no_grad():
        new.quant_conv.weight[:4] = torch.einsum("ij,jkhw->ikhw", turn, old.quant_conv.weight[:4])
        new.quant_conv.bias[:4] = turn @ old.quant_conv.bias[:4]
    unet = build_unet(UNetConfig(channels=(32, 32)), 4, 8, 32).eval()
    base = StableDiffusionPipeline(
        old, None, None, unet, build_scheduler(), None, None, requires_safety_checker=False
    )
    moved = transplant(base, new, pictures).eval()
    latents, text = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 32)
    with torch.no_grad():
        drawn = unet(latents, 500, text).sample
        turned = moved(torch.einsum("ij,njhw->nihw", turn, latents), 500, text).sample
    wanted = torch.einsum("ij,njhw->nihw", turn, drawn)
    torch.testing.assert_close(turned, wanted, atol=0.05 * wanted.std().item(), rtol=0)

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import load_file
from torch.nn import functional as F

from models.catalog import embedded_folder
from models.errors import InvalidModel
from models.preview import Previewer, fit_projection, load_tiny_decoder, project
from models.residents import Base
from tests.tiny import tiny_pipeline

TAESD = Path(__file__).parents[3] / "shared" / "data" / "taesd"


@pytest.fixture
def base() -> Base:
    return Base("tiny", "", tiny_pipeline())


@torch.no_grad()
def test_the_projection_comes_close_to_the_shrunk_decoded_picture() -> None:
    vae = AutoencoderKL.from_pretrained(embedded_folder() / "dogbooth-base" / "vae")
    generator = torch.Generator().manual_seed(1)
    channels = vae.config.latent_channels
    noise = torch.randn(8, channels, 2, 2, generator=generator)
    latents = F.interpolate(noise, size=8, mode="bicubic")
    decoded = F.adaptive_avg_pool2d(vae.decode(latents / vae.config.scaling_factor).sample, 8)
    projected = project(latents, fit_projection(vae))
    error = (projected - decoded).square().mean()
    constant = (decoded - decoded.mean(dim=(0, 2, 3), keepdim=True)).square().mean()
    assert error < 0.3 * constant


@torch.no_grad()
def test_a_preview_is_as_large_as_the_picture(base: Base) -> None:
    previewer = Previewer(None, torch.device("cpu"), torch.float32)
    assert previewer.picture(base, torch.randn(1, 4, 4, 6)).size == (48, 32)


@torch.no_grad()
def test_a_tiny_decoder_is_used_where_it_fits(base: Base, tmp_path: Path) -> None:
    AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).save_pretrained(tmp_path)
    previewer = Previewer(tmp_path, torch.device("cpu"), torch.float32)
    plain = Previewer(None, torch.device("cpu"), torch.float32)
    latents = torch.randn(1, 4, 4, 4)
    one, other = previewer.picture(base, latents), plain.picture(base, latents)
    assert one.size == other.size == (32, 32)
    assert one.tobytes() != other.tobytes()


@pytest.mark.skipif(not TAESD.is_dir(), reason="no TAESD weights beside the repository")
@torch.no_grad()
def test_taesd_as_its_author_publishes_it_decodes_what_it_encodes() -> None:
    decoder = load_tiny_decoder(TAESD)
    encoder = AutoencoderTiny()
    state = load_file(TAESD / "taesd_encoder.safetensors")
    encoder.encoder.layers.load_state_dict(state)
    picture = F.interpolate(torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)), 64)
    decoded = decoder.decode(encoder.encode(2 * picture - 1).latents).sample
    assert (decoded / 2 + 0.5 - picture).abs().mean() < 0.1


def test_a_folder_without_a_decoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="holds no AutoencoderTiny"):
        load_tiny_decoder(tmp_path)

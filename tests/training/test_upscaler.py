from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from models.catalog import Catalog
from models.upscaler import load_upscaler
from tests.tiny import publish_adapter, publish_base
from tests.training.conftest import draw_dog
from tests.training.test_autoencoder import TINY, save_and_stop
from training.__main__ import main
from training.autoencoder import build_autoencoder
from training.config import ConfigError
from training.pictures import normalise, pixels
from training.polish import PolishConfig
from training.upscaler import (
    UpscalerConfig,
    fit_encoder,
    sharpest,
    train_upscaler,
    with_another_stage,
)

SHORT = PolishConfig(steps=2, crop=64, batch_size=2, adversarial_from=1, checkpoint_every=1)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog([tmp_path / "models"])
    publish_base(catalog, "tiny")
    return catalog


@pytest.fixture
def config(two_breeds: Path, tmp_path: Path) -> UpscalerConfig:
    return UpscalerConfig(
        base="tiny",
        dataset=two_breeds,
        work=tmp_path / "work",
        held_out=0.2,
        encoder_steps=1,
        polish=SHORT,
    )


def test_a_new_stage_starts_as_the_picture_enlarged() -> None:
    torch.manual_seed(0)
    vae = build_autoencoder(TINY, 64).eval()
    larger = with_another_stage(vae).eval()
    pictures = normalise(pixels([draw_dog(seed).resize((64, 64)) for seed in range(2)]))
    with torch.no_grad():
        latents = vae.encode(pictures).latent_dist.mean
        small, large = vae.decode(latents).sample, larger.decode(latents).sample
    assert large.shape == (2, 3, 128, 128)
    torch.testing.assert_close(F.avg_pool2d(large, 2), small, atol=0.02, rtol=0)


def test_the_base_gets_a_decoder_for_twice_the_side_and_keeps_its_own(
    catalog: Catalog, config: UpscalerConfig
) -> None:
    before = {
        path.relative_to(path.parents[1]): path.read_bytes()
        for path in catalog.get("tiny").folder.glob("*/*.safetensors")
    }
    folder = train_upscaler(config, catalog)
    assert {name: (folder / name).read_bytes() for name in before} == before
    upscaler = load(folder)
    assert upscaler.decode(torch.zeros(1, 4, 4, 4)).sample.shape == (1, 3, 64, 64)
    assert upscaler.encode(torch.zeros(1, 3, 64, 64)).latent_dist.mean.shape == (1, 4, 4, 4)
    config_file = (folder / "upscaler" / "config.json").read_text(encoding="utf-8")
    assert str(folder.parent) not in config_file
    record = catalog.get("tiny").manifest.training["upscaler"]
    assert record["config"]["polish"]["steps"] == 2
    assert (config.work / "samples" / "polish-000002.png").is_file()


def test_a_stopped_run_goes_on_to_the_same_weights(
    catalog: Catalog, config: UpscalerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load(train_upscaler(replace(config, work=config.work / "whole"), catalog))
    with monkeypatch.context() as patch:
        patch.setattr("training.checkpoints.save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_upscaler(config, catalog)
    resumed = load(train_upscaler(config, catalog)).state_dict()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed[name]), name


def load(folder: Path) -> AutoencoderKL:
    upscaler = load_upscaler(folder, torch.device("cpu"), torch.float32)
    assert upscaler is not None
    return upscaler


def test_the_encoder_comes_nearer_to_the_latents_of_shrunk_pictures(config: UpscalerConfig) -> None:
    torch.manual_seed(0)
    vae = build_autoencoder(TINY, 64).eval()
    larger = with_another_stage(vae).eval()
    pictures = pixels([draw_dog(seed).resize((72, 72)) for seed in range(4)])

    def distance() -> float:
        with torch.no_grad():
            wanted = vae.encode(F.avg_pool2d(x, 2)).latent_dist.mean
            return F.mse_loss(larger.encode(x).latent_dist.mean, wanted).item()

    x = normalise(pictures[..., :64, :64])
    before = distance()
    fit_encoder(larger, vae, pictures, replace(config, encoder_steps=60))
    assert distance() < before


def test_the_pictures_with_detail_are_the_sharp_ones() -> None:
    flat = torch.full((1, 3, 16, 16), 90, dtype=torch.uint8)
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 255
    sharp = board.byte().expand(1, 3, 16, 16)
    assert sharpest(torch.cat([flat, sharp, flat, sharp]), 0.5).tolist() == [1, 3]
    assert sharpest(flat, 0.1).tolist() == [0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sharpest": 0.0}, "sharpest: 0.0 is not above 0"),
        ({"held_out": 1.0}, "held_out: 1.0"),
        ({"encoder_steps": 0}, "encoder_steps: 0 is below 1"),
        ({"polish": PolishConfig()}, "polish.steps: 0 is below 1"),
    ],
)
def test_settings_out_of_bounds_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        UpscalerConfig(**fields)  # type: ignore[arg-type]


def test_an_adapter_gets_none(
    catalog: Catalog, config: UpscalerConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish_adapter(catalog, "rex")
    with pytest.raises(ConfigError, match="base: 'rex' is an adapter"):
        train_upscaler(replace(config, base="rex"), catalog)
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    assert main(["upscaler", "--base", "rex", "--work", str(tmp_path / "work")]) == 2

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from models.catalog import Catalog
from tests.training.test_autoencoder import save_and_stop
from training.autoencoder import AutoencoderConfig
from training.base_unet import StageConfig, UNetConfig, stage_rates
from training.config import ConfigError, build, read_toml
from training.pictures import mirror_correlation
from training.pretrain import (
    Photos,
    PretrainConfig,
    load_photos,
    pretrain,
    recipe_path,
    weights_of,
)
from training.text import TextConfig
from training.upscaler import UpscalerConfig

SHARES = {"portrait": 0.75, "box": 0.25}


def one_crop(photos: Photos) -> bool:
    return len({crop for _, _, crop in photos.kinds}) == 1


def photos_of(recipe: PretrainConfig) -> Photos:
    return load_photos(
        recipe.dataset, recipe.resolution, recipe.exclude_breeds, recipe.held_out, recipe.seed
    )


@pytest.fixture
def recipe(two_breeds: Path, tmp_path: Path) -> PretrainConfig:
    return PretrainConfig(
        name="tiny-base",
        dataset=two_breeds,
        work=tmp_path / "work",
        resolution=64,
        held_out=0.2,
        crops_per_photo=1,
        autoencoder=AutoencoderConfig(
            channels=(8, 8, 8, 8), latent_channels=4, crop=64, batch_size=2, steps=2
        ),
        text=TextConfig(vocabulary=600, window=16, width=32, layers=1, heads=2),
        unet=UNetConfig(
            channels=(32, 32),
            stages=(StageConfig(32, 2), StageConfig(64, 2)),
            batch_size=4,
            checkpoint_every=2,
        ),
    )


def test_a_recipe_ends_as_a_base_that_plain_diffusers_loads(
    recipe: PretrainConfig, tmp_path: Path
) -> None:
    folder = pretrain(recipe, Catalog([tmp_path / "models"]))
    assert folder is not None
    manifest = Catalog([tmp_path / "models"]).get("tiny-base").manifest
    assert manifest.breeds == ["beagle", "pug"]
    assert manifest.training["config"]["unet"]["stages"][1]["resolution"] == 64
    assert manifest.training["data_fingerprint"] == photos_of(recipe).fingerprint
    pipeline = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("un perro beagle", num_inference_steps=2).images[0]
    assert picture.size == (64, 64)
    assert {path.suffix for path in folder.rglob("*.*")} <= {".json", ".safetensors", ".txt"}


def test_a_base_goes_on_from_another_one_with_an_autoencoder_of_its_own(
    recipe: PretrainConfig, tmp_path: Path
) -> None:
    first = pretrain(recipe, Catalog([tmp_path / "models"]))
    assert first is not None
    goes_on = replace(
        recipe,
        name="tiny-base-2",
        work=tmp_path / "again",
        autoencoder=replace(recipe.autoencoder, latent_channels=6),
        unet=replace(recipe.unet, start_from=first),
    )
    second = pretrain(goes_on, Catalog([tmp_path / "models"]))
    assert second is not None
    before, after = (StableDiffusionPipeline.from_pretrained(each) for each in (first, second))
    assert (before.unet.config.in_channels, after.unet.config.in_channels) == (4, 6)
    assert before.tokenizer.get_vocab() == after.tokenizer.get_vocab()
    middle = "mid_block.resnets.0.conv1.weight"
    weights = [each.unet.state_dict()[middle] for each in (before, after)]
    torch.testing.assert_close(*weights, atol=5e-3, rtol=0)


def test_a_base_to_go_on_from_that_is_not_there_is_refused(
    recipe: PretrainConfig, tmp_path: Path
) -> None:
    unet = replace(recipe.unet, start_from=tmp_path / "none")
    with pytest.raises(ConfigError, match="unet.start_from: '.*none' is no pipeline's folder"):
        pretrain(replace(recipe, unet=unet), Catalog([tmp_path / "models"]))


def test_a_resolution_that_the_stages_do_not_reach_is_refused(recipe: PretrainConfig) -> None:
    with pytest.raises(ConfigError, match="resolution: 32 is not the largest of unet.stages"):
        replace(recipe, resolution=32)


def test_a_killed_u_net_goes_on_as_if_never_stopped(
    recipe: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pretrain(recipe, Catalog([tmp_path / "whole"]))
    stopped = replace(recipe, work=tmp_path / "again")
    with monkeypatch.context() as patch:
        patch.setattr("training.checkpoints.save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(stopped, Catalog([tmp_path / "resumed"]))
    assert Catalog([tmp_path / "resumed"]).entries() == []
    resumed = pretrain(stopped, Catalog([tmp_path / "resumed"]))
    weights = Path("unet") / "diffusion_pytorch_model.safetensors"
    assert whole is not None
    assert resumed is not None
    assert (whole / weights).read_bytes() == (resumed / weights).read_bytes()


def test_all_crops_of_a_photo_are_on_one_side(recipe: PretrainConfig) -> None:
    photos = photos_of(recipe)
    assert len(photos.training) + len(photos.held_out) == len(photos.pictures) == 12
    assert len(photos.held_out) == 2
    assert not set(photos.training.tolist()) & set(photos.held_out.tolist())


def test_breeds_are_drawn_alike_and_faces_from_the_front_more_often(
    recipe: PretrainConfig,
) -> None:
    photos = photos_of(recipe)
    weights = weights_of(photos, replace(recipe.unet, box_share=0.25, frontal_bias=6.0))
    correlation = mirror_correlation(photos.pictures)
    for kind in set(photos.kinds):
        rows = torch.tensor([each == kind for each in photos.kinds])
        assert weights[rows].sum() == pytest.approx(1.0 if one_crop(photos) else SHARES[kind[2]])
        assert weights[rows].argmax() == correlation[rows].argmax()


def test_a_mirror_image_correlates_a_one_sided_one_does_not() -> None:
    half = torch.randint(0, 256, (2, 3, 48, 24), generator=torch.Generator().manual_seed(0))
    face = torch.cat([half, half.flip(-1)], dim=-1).byte()
    slope = torch.arange(48).mul(5).expand(1, 3, 48, 48).byte()
    assert (mirror_correlation(face) > 0.95).all()
    assert mirror_correlation(slope) < -0.5
    assert mirror_correlation(face.roll(3, dims=-1)).min() > 0.6


def test_each_stage_warms_up_and_falls_to_its_final_rate() -> None:
    rate = stage_rates((StageConfig(64, 400, 1e-3, 0.5), StageConfig(128, 400, 4e-4, 0.0)))
    assert rate(0) == pytest.approx(1e-5)
    assert rate(399) == pytest.approx(5e-4, rel=0.01)
    assert rate(400) == pytest.approx(4e-6)
    assert rate(600) == pytest.approx(2e-4)
    assert rate(799) == pytest.approx(0, abs=1e-7)


def test_the_shipped_recipe_is_a_valid_one() -> None:
    assert build(PretrainConfig, read_toml(recipe_path())).name == "dogbooth-base"
    assert build(UpscalerConfig, read_toml(recipe_path("upscaler"))).base == "dogbooth-base"


def test_a_missing_dataset_is_one_clear_line(recipe: PretrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="python -m data prepare"):
        pretrain(replace(recipe, dataset=tmp_path / "none"), Catalog([tmp_path]))


def test_a_dataset_below_the_resolution_is_refused(recipe: PretrainConfig, tmp_path: Path) -> None:
    unet = replace(recipe.unet, stages=(StageConfig(128, 1),))
    with pytest.raises(ConfigError, match="128 px is above the dataset's 72 px"):
        pretrain(replace(recipe, resolution=128, unet=unet), Catalog([tmp_path]))

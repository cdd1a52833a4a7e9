import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import training
from models.catalog import Catalog
from models.errors import InvalidModel
from models.pipeline import load_pipeline
from tests.tiny import add_upscaler, tiny_manifest, tiny_pipeline
from training.config import ConfigError, build, read_toml
from training.dreambooth import DreamBoothConfig, dreambooth
from training.prior import class_latents


@pytest.fixture
def run(rex: Path) -> DreamBoothConfig:
    return DreamBoothConfig(
        name="rexy",
        dataset=rex,
        base="tiny",
        rank=2,
        steps=2,
        batch_size=2,
        class_images=3,
        warmup=0,
        learning_rate=1e-2,
        schedule="constant",
        device="cpu",
    )


def draw(catalog: Catalog, name: str) -> bytes:
    pipeline = load_pipeline(name, catalog, torch.device("cpu"), torch.float32)
    generator = torch.Generator().manual_seed(0)
    picture = pipeline("a photo of rexy dog", num_inference_steps=2, generator=generator).images[0]
    pixels: bytes = picture.tobytes()
    return pixels


def test_a_lora_run_publishes_an_adapter_that_changes_the_picture(
    run: DreamBoothConfig, catalog: Catalog, tmp_path: Path
) -> None:
    folder = dreambooth(run, catalog, tmp_path / "work")
    manifest = catalog.get("rexy").manifest
    assert (manifest.kind, manifest.base, manifest.resolution) == ("adapter", "tiny", 32)
    assert manifest.instance_prompts == ["a photo of rex dog"]
    assert manifest.training["config"]["seed"] == 0
    assert manifest.training["versions"]["diffusers"]
    assert (folder / "preview.png").exists()
    assert draw(catalog, "rexy") != draw(catalog, "tiny")


def test_a_full_run_publishes_a_whole_checkpoint(
    run: DreamBoothConfig, catalog: Catalog, tmp_path: Path
) -> None:
    full = replace(run, method="full", train_text_encoder=True, prior_loss_weight=0.0)
    add_upscaler(catalog)
    folder = dreambooth(full, catalog, tmp_path / "work")
    assert (folder / "upscaler" / "config.json").exists()
    assert catalog.get("rexy").manifest.kind == "checkpoint"
    assert (folder / "text_encoder" / "model.safetensors").exists()
    assert draw(catalog, "rexy") != draw(catalog, "tiny")


def test_a_text_encoder_adapter_is_stored_beside_the_u_nets(
    run: DreamBoothConfig, catalog: Catalog, tmp_path: Path
) -> None:
    both = replace(run, train_text_encoder=True, lora_targets="attention+convolutions", alpha=1.0)
    folder = dreambooth(both, catalog, tmp_path / "work")
    names = load_file(folder / "pytorch_lora_weights.safetensors")
    assert any(name.startswith("text_encoder.") for name in names)
    assert any("conv1" in name for name in names)
    assert draw(catalog, "rexy") != draw(catalog, "tiny")


def test_gradient_checkpointing_does_not_change_the_weights(
    run: DreamBoothConfig, catalog: Catalog, tmp_path: Path
) -> None:
    plain = replace(run, mixed_precision="no", gradient_accumulation=2)
    first = dreambooth(plain, catalog, tmp_path / "work")
    saved = replace(plain, name="saved", gradient_checkpointing=True)
    second = dreambooth(saved, catalog, tmp_path / "work")
    one = load_file(first / "pytorch_lora_weights.safetensors")
    other = load_file(second / "pytorch_lora_weights.safetensors")
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=1e-3, rtol=1e-2)


def test_the_same_seed_gives_the_same_weights(
    run: DreamBoothConfig, catalog: Catalog, tmp_path: Path
) -> None:
    one = dreambooth(run, catalog, tmp_path / "work")
    other = dreambooth(replace(run, name="again"), catalog, tmp_path / "work")
    weights = "pytorch_lora_weights.safetensors"
    one_weights, other_weights = load_file(one / weights), load_file(other / weights)
    assert all(torch.equal(value, other_weights[name]) for name, value in one_weights.items())


def test_class_latents_are_made_once_per_base_and_settings(
    catalog: Catalog, tmp_path: Path
) -> None:
    pipeline = load_pipeline("tiny", catalog, torch.device("cpu"), torch.float32)
    first = class_latents(pipeline, ["a dog", "a pug"], 3, (32, 32), 0, tmp_path)
    assert first.shape == (3, 4, 4, 4)
    kept = next((tmp_path / "class_latents").iterdir())
    written = kept.stat().st_ino
    assert torch.equal(class_latents(pipeline, ["a dog", "a pug"], 3, (32, 32), 0, tmp_path), first)
    assert kept.stat().st_ino == written
    class_latents(pipeline, ["a cat"], 3, (32, 32), 0, tmp_path)
    with torch.no_grad():
        next(pipeline.unet.parameters()).add_(1)
    class_latents(pipeline, ["a dog", "a pug"], 3, (32, 32), 0, tmp_path)
    assert len(list((tmp_path / "class_latents").iterdir())) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Rex!"}, "name: 'Rex!'"),
        ({"name": "rex"}, "'rex' is published already"),
        ({"base": "rex"}, "base: 'rex' is itself an adapter"),
        ({"dataset": Path("nowhere")}, "dataset: 'nowhere' holds no prepared dataset"),
        ({"resolution": 64}, "the base draws 64 px, the dataset has 36 px"),
        ({"mixed_precision": "fp16"}, "mixed_precision: 'fp16' needs a GPU"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_publishes_nothing(
    run: DreamBoothConfig,
    catalog: Catalog,
    tmp_path: Path,
    change: dict[str, object],
    message: str,
) -> None:
    before = [entry.manifest.name for entry in catalog.entries()]
    with pytest.raises(ConfigError, match=message):
        dreambooth(replace(run, **change), catalog, tmp_path / "work")  # type: ignore[arg-type]
    assert [entry.manifest.name for entry in catalog.entries()] == before


@pytest.mark.parametrize("recipe", ["breeds", "cats"])
def test_a_shipped_recipe_is_read(recipe: str) -> None:
    path = Path(training.__file__ or "").parent / "recipes" / f"{recipe}.toml"
    config = build(DreamBoothConfig, read_toml(path))
    assert config.train_text_encoder and config.has_prior and config.rows >= 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"snr_gamma": 0.0}, "snr_gamma: 0.0 is not above 0"),
        ({"caption_dropout": 1.0}, r"caption_dropout: 1.0 is not in \[0, 1\)"),
        ({"ema_decay": 1.0}, "ema_decay: 1.0 is not between 0 and 1"),
        ({"dora": True, "method": "full"}, "dora: needs method = 'lora', not 'full'"),
        ({"class_breeds": ("pug",)}, "class_breeds: needs prior = 'breeds', not 'generated'"),
        ({"method": "embedding", "train_text_encoder": True}, "keeps it frozen"),
    ],
)
def test_settings_that_cannot_work_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DreamBoothConfig(name="a", dataset=Path("x"), **change)


def test_an_inpainting_base_is_refused(
    run: DreamBoothConfig, catalog: Catalog, tmp_path: Path
) -> None:
    pipeline = tiny_pipeline()
    settings = {k: v for k, v in pipeline.unet.config.items() if not k.startswith("_")}
    pipeline.unet = type(pipeline.unet).from_config(settings | {"in_channels": 9})
    with catalog.publish(tiny_manifest("inpainting")) as folder:
        pipeline.save_pretrained(folder)
    with pytest.raises(ConfigError, match="base: its U-Net takes 9 channels"):
        dreambooth(replace(run, base="inpainting"), catalog, tmp_path / "work")


def test_a_base_of_another_architecture_is_refused(
    run: DreamBoothConfig, catalog: Catalog, tmp_path: Path
) -> None:
    other = tmp_path / "flux"
    other.mkdir()
    (other / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(InvalidModel, match="the pipeline class 'FluxPipeline' is not supported"):
        dreambooth(replace(run, base=str(other)), catalog, tmp_path / "work")


def test_a_disk_that_is_full_at_the_end_publishes_nothing_and_the_next_try_goes_on(
    run: DreamBoothConfig, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(path.name for path in (tmp_path / "models").iterdir())
    plain = os.fsync

    def fsync(descriptor: int) -> None:
        if any(path.name.startswith(".rexy") for path in (tmp_path / "models").iterdir()):
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        dreambooth(run, catalog, tmp_path / "work")
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == before
    monkeypatch.setattr(os, "fsync", plain)
    dreambooth(run, catalog, tmp_path / "work")
    assert catalog.get("rexy").manifest.training["steps"] == 2


def test_a_rank_of_nought_is_refused() -> None:
    with pytest.raises(ConfigError, match="rank: 0 is below 1"):
        DreamBoothConfig(name="a", dataset=Path("x"), rank=0)

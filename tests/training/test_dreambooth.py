from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import DDPMScheduler
from safetensors.torch import load_file

from models.catalog import Catalog
from models.pipeline import load_pipeline
from training.config import ConfigError
from training.dreambooth import DreamBoothConfig, dreambooth, target_of
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


@pytest.fixture(autouse=True)
def own_accelerator() -> Iterator[None]:
    """`accelerate` keeps its precision for the life of a process."""
    yield
    AcceleratorState._reset_state(True)


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
    folder = dreambooth(full, catalog, tmp_path / "work")
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
    first = class_latents(pipeline, ["a dog", "a pug"], 3, 32, 0, tmp_path)
    assert first.shape == (3, 4, 4, 4)
    kept = next((tmp_path / "class_latents").iterdir())
    written = kept.stat().st_mtime_ns
    assert torch.equal(class_latents(pipeline, ["a dog", "a pug"], 3, 32, 0, tmp_path), first)
    assert kept.stat().st_mtime_ns == written
    class_latents(pipeline, ["a cat"], 3, 32, 0, tmp_path)
    with torch.no_grad():
        next(pipeline.unet.parameters()).add_(1)
    class_latents(pipeline, ["a dog", "a pug"], 3, 32, 0, tmp_path)
    assert len(list((tmp_path / "class_latents").iterdir())) == 3


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


def test_a_rank_of_nought_is_refused() -> None:
    with pytest.raises(ConfigError, match="rank: 0 is below 1"):
        DreamBoothConfig(name="a", dataset=Path("x"), rank=0)

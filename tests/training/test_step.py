"""The step against the plain formula, the priors, and memory that runs out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch.nn.functional import mse_loss

from models.catalog import Catalog
from models.manifest import ADAPTER_FILE
from models.pipeline import load_pipeline
from tests.tiny import publish_base
from training.config import ConfigError
from training.dreambooth import dreambooth
from training.dreambooth_config import DreamBoothConfig
from training.errors import NothingLearned, OutOfMemory
from training.estimate import estimate
from training.gathering import class_prompt_of
from training.optimizers import usual_rate
from training.preparation import prepare
from training.subjects import read_subjects


@pytest.fixture
def plain_run(rex: Path) -> DreamBoothConfig:
    """Without caches' half precision, validation and samples."""
    return DreamBoothConfig(
        name="fido",
        dataset=rex,
        base="tiny",
        method="full",
        rank=2,
        steps=1,
        batch_size=2,
        class_images=3,
        warmup=0,
        learning_rate=1e-3,
        schedule="constant",
        mixed_precision="no",
        validate_every=0,
        sample_images=0,
        device="cpu",
    )


@pytest.mark.parametrize("train_text_encoder", [False, True])
def test_the_step_is_the_plain_formula(
    plain_run: DreamBoothConfig, catalog: Catalog, tmp_path: Path, train_text_encoder: bool
) -> None:
    """Loss, gradients and the published weights, as the textbook writes them."""
    config = replace(plain_run, train_text_encoder=train_text_encoder, prior_loss_weight=0.7)
    run = prepare(config, catalog, tmp_path)
    batch = run.gathered.draws(run.generator)
    assert len(batch.latents) == 4 and batch.instance_rows == 2
    ours = run.step.gradients(batch, micro_batch=1).item()

    pipeline = load_pipeline("tiny", catalog, torch.device("cpu"), torch.float32)
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    texts = [list(run.gathered.texts.rows)[row] for row in batch.texts.tolist()]
    ids = pipeline.tokenizer(
        texts, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    pipeline.text_encoder.requires_grad_(train_text_encoder)
    noisy = scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
    predicted = pipeline.unet(noisy, batch.timesteps, pipeline.text_encoder(ids)[0]).sample
    target = scheduler.get_velocity(batch.latents, batch.noise, batch.timesteps)
    loss = mse_loss(predicted[:2], target[:2]) + 0.7 * mse_loss(predicted[2:], target[2:])
    loss.backward()
    assert ours == pytest.approx(loss.item(), rel=1e-6)
    models = [pipeline.unet, pipeline.text_encoder][: 1 + train_text_encoder]
    for model, trained in zip(models, run.weights.models, strict=True):
        for (name, expected), actual in zip(
            model.named_parameters(), trained.parameters(), strict=True
        ):
            if expected.grad is not None:
                torch.testing.assert_close(
                    actual.grad, expected.grad, rtol=1e-3, atol=1e-6, msg=name
                )

    parameters = [p for model in models for p in model.parameters()]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-2).step()
    folder = dreambooth(config, catalog, tmp_path)
    assert catalog.get("fido").manifest.training["first_loss"] == pytest.approx(ours, abs=1e-6)
    published = (
        load_file(folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")
        if (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").exists()
        else load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    )
    for name, value in pipeline.unet.state_dict().items():
        torch.testing.assert_close(published[name].float(), value, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_at_first_the_bases_own_prediction_is_met_exactly(
    plain_run: DreamBoothConfig, catalog: Catalog, tmp_path: Path, method: Any
) -> None:
    """prior = "prediction": before training, the class rows add nothing to the loss."""
    config = replace(plain_run, method=method, prior="prediction")
    run = prepare(config, catalog, tmp_path)
    batch = run.gathered.draws(run.generator)
    assert torch.equal(batch.latents[:2], batch.latents[2:])
    assert torch.equal(batch.noise[:2], batch.noise[2:])
    names = {row: text for text, row in run.gathered.texts.rows.items()}
    assert [names[row] for row in batch.texts[2:].tolist()] == ["a photo of a dog"] * 2
    with_prior = run.step.gradients(batch, 2).item()
    without = replace(run.step, config=replace(config, prior_loss_weight=1e-9))
    assert with_prior == pytest.approx(without.gradients(batch, 2).item(), rel=1e-5)
    for parameter in run.weights.parameters:
        parameter.data.add_(0.05)
    moved = run.step.gradients(batch, 2).item() - without.gradients(batch, 2).item()
    assert moved > 1e-4
    with run.weights.base_unet() as unet, torch.no_grad():
        pipeline = load_pipeline("tiny", catalog, torch.device("cpu"), torch.float32)
        latents, timesteps = batch.latents, batch.timesteps
        embeddings = run.gathered.texts.embeddings[batch.texts]
        torch.testing.assert_close(
            unet(latents, timesteps, embeddings).sample,
            pipeline.unet(latents, timesteps, embeddings).sample,
        )


def test_the_bases_class_prompt_holds_its_own_class_only(rex: Path, catalog: Catalog) -> None:
    subjects = read_subjects(rex)
    publish_base(catalog, "dogs", class_prompt="any dog at all")
    assert class_prompt_of("dogs", catalog, subjects) == "any dog at all"
    cats = replace(subjects, class_word="ocelot")
    assert class_prompt_of("dogs", catalog, cats) == "a photo of an ocelot"
    assert class_prompt_of("nowhere/else", catalog, cats) == "a photo of an ocelot"


def test_real_photos_of_the_class_are_a_prior(
    plain_run: DreamBoothConfig, catalog: Catalog, tmp_path: Path, photos: Path
) -> None:
    config = replace(plain_run, method="lora", prior="photos", class_photos=photos)
    run = prepare(config, catalog, tmp_path)
    assert run.gathered.draws.prior is not None
    assert run.gathered.draws.prior.latents.shape == (4, 4, 4, 4)
    assert not (tmp_path / "cache" / "class_latents").exists()
    dreambooth(config, catalog, tmp_path)
    assert catalog.get("fido").manifest.training["config"]["prior"] == "photos"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="class_photos: .*empty' holds no photo"):
        prepare(replace(config, class_photos=tmp_path / "empty"), catalog, tmp_path)
    with pytest.raises(ConfigError, match="class_photos: needed with prior = 'photos'"):
        replace(config, class_photos=None)


def test_photos_of_the_datasets_other_breeds_are_a_prior(
    plain_run: DreamBoothConfig, catalog: Catalog, tmp_path: Path, two_breeds: Path
) -> None:
    """Pugs are learned; beagles stand beside them, by their name, as any dog, and unnamed."""
    config = replace(
        plain_run, method="lora", dataset=two_breeds, breeds=("pug",), prior="breeds", batch_size=4
    )
    run = prepare(config, catalog, tmp_path)
    prior = run.gathered.draws.prior
    assert prior is not None
    assert prior.latents.shape == (12, 4, 4, 4), "six photos and their mirror images"
    named = {row: text for text, row in run.gathered.texts.rows.items()}
    texts = [[named[row] for row in rows] for rows in prior.texts]
    for captions in texts:
        of_any = [text for text in captions if text == "a photo of a dog"]
        own = [text for text in captions if "beagle" in text]
        assert len(own) == len(of_any) == 2 * captions.count("")
        assert len(own) + len(of_any) + captions.count("") == len(captions)
    assert not any(
        "beagle" in named[row] for rows in run.gathered.draws.instance.texts for row in rows
    )
    also_named = prepare(replace(config, class_breeds=("Beagle",)), catalog, tmp_path)
    assert also_named.gathered.draws.prior is not None
    assert torch.equal(also_named.gathered.draws.prior.latents, prior.latents)

    batch = run.gathered.draws(run.generator)
    assert not torch.equal(batch.latents[:4], batch.latents[4:])
    without = replace(run.step, config=replace(config, prior_loss_weight=1e-9))
    untrained = run.step.gradients(batch, 4).item()
    assert untrained == pytest.approx(without.gradients(batch, 4).item(), rel=1e-5)
    for parameter in run.weights.parameters:
        parameter.data.add_(0.05)
    assert run.step.gradients(batch, 4).item() - without.gradients(batch, 4).item() > 1e-4
    dreambooth(config, catalog, tmp_path)
    assert catalog.get("fido").manifest.training["config"]["prior"] == "breeds"
    for each in (config, replace(config, class_breeds=("beagle",))):
        assert "fits" in estimate(each, catalog)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_breeds": ("boxer",)}, "class_breeds: the dataset has no boxer"),
        ({"class_breeds": ("pug", "beagle")}, "class_breeds: pug is to be learned itself"),
        ({"breeds": ()}, "prior: 'breeds' needs a dataset with breeds that are not learned"),
    ],
)
def test_other_breeds_that_cannot_be_a_prior_are_named(
    plain_run: DreamBoothConfig,
    catalog: Catalog,
    tmp_path: Path,
    two_breeds: Path,
    change: dict[str, Any],
    message: str,
) -> None:
    config = replace(plain_run, dataset=two_breeds, breeds=("pug",), prior="breeds")
    with pytest.raises(ConfigError, match=message):
        prepare(replace(config, **change), catalog, tmp_path)


def test_out_of_memory_in_the_first_step_halves_the_micro_batch(
    plain_run: DreamBoothConfig,
    catalog: Catalog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A device with room for four rows; the same weights as one with room for all."""
    config = replace(plain_run, method="lora", batch_size=8, steps=3)
    roomy = dreambooth(config, catalog, tmp_path / "roomy")
    expected = load_file(roomy / ADAPTER_FILE)
    plain = UNet2DConditionModel.forward
    room = 4

    def forward(self: UNet2DConditionModel, sample: torch.Tensor, *rest: Any, **more: Any) -> Any:
        if torch.is_grad_enabled() and len(sample) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, sample, *rest, **more)

    monkeypatch.setattr(UNet2DConditionModel, "forward", forward)
    small = dreambooth(replace(config, name="small"), catalog, tmp_path / "small")
    said = capsys.readouterr().err
    assert "batch_size 4 and gradient_accumulation 2, 8 rows a step as before" in said
    assert "batch_size 2 and gradient_accumulation 4, 8 rows a step as before" in said
    for name, value in load_file(small / ADAPTER_FILE).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-2, atol=1e-4)
    room = 1
    with pytest.raises(OutOfMemory, match="set gradient_checkpointing"):
        dreambooth(replace(config, name="none"), catalog, tmp_path / "none")


def test_a_run_that_changed_nothing_is_an_error(
    plain_run: DreamBoothConfig, catalog: Catalog, tmp_path: Path
) -> None:
    """The warm-up starts at a rate of nought, and the run is over before it rises."""
    config = replace(plain_run, method="lora", schedule="constant_with_warmup", warmup=10)
    with pytest.raises(NothingLearned, match="1 steps changed no weight"):
        dreambooth(config, catalog, tmp_path)
    assert "fido" not in [entry.manifest.name for entry in catalog.entries()]


def test_parts_that_are_not_named_stay_what_they_were(
    plain_run: DreamBoothConfig, catalog: Catalog, tmp_path: Path
) -> None:
    config = replace(plain_run, train_only=("attn2", "up_blocks"), steps=2, weight_decay=0.5)
    dreambooth(config, catalog, tmp_path)
    tuned = load_pipeline("fido", catalog, torch.device("cpu"), torch.float32).unet
    before = dict(
        load_pipeline("tiny", catalog, torch.device("cpu"), torch.float32).unet.named_parameters()
    )
    for name, value in tuned.named_parameters():
        trained = "attn2" in name or "up_blocks" in name
        if not trained:  # published in fp16
            assert torch.equal(value, before[name].half().float()), name
    moved = [
        name for name, value in tuned.named_parameters() if (value - before[name]).norm() > 0.01
    ]
    assert any("attn2" in name for name in moved) and any("up_blocks" in name for name in moved)
    with pytest.raises(ConfigError, match="train_only: 'attn3' is in the name of no weight"):
        dreambooth(replace(config, name="none", train_only=("attn3",)), catalog, tmp_path)
    with pytest.raises(ConfigError, match="train_only: needs method = 'full', not 'lora'"):
        replace(config, method="lora")


@pytest.mark.parametrize("optimizer", ["adamw8bit", "prodigy", "adafactor"])
def test_every_optimizer_changes_the_weights(
    plain_run: DreamBoothConfig,
    catalog: Catalog,
    tmp_path: Path,
    optimizer: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rate = 1.0 if optimizer == "prodigy" else 1e-3
    config = replace(plain_run, method="lora", optimizer=optimizer, learning_rate=rate, steps=3)
    dreambooth(config, catalog, tmp_path)
    assert catalog.get("fido").manifest.training["weight_change"] > 0
    fell_back = "adamw8bit needs the package bitsandbytes" in capsys.readouterr().err
    assert fell_back == (optimizer == "adamw8bit")


def test_the_usual_rate_goes_by_method_and_size() -> None:
    small = torch.nn.Linear(10, 10)
    large = torch.nn.Linear(20_000, 6_000, device="meta")
    assert usual_rate("lora", "adamw", small) == 1e-3
    assert usual_rate("lora", "adamw8bit", large) == 1e-4
    assert usual_rate("full", "adafactor", large) == 2e-6
    assert usual_rate("lora", "prodigy", large) == 1.0


def test_a_rate_that_was_not_given_is_recorded_as_it_was_taken(
    plain_run: DreamBoothConfig, catalog: Catalog, tmp_path: Path
) -> None:
    dreambooth(replace(plain_run, method="lora", learning_rate=None), catalog, tmp_path)
    assert catalog.get("fido").manifest.training["config"]["learning_rate"] == 1e-3


def test_dora_is_published_merged(
    plain_run: DreamBoothConfig, catalog: Catalog, tmp_path: Path
) -> None:
    config = replace(plain_run, method="lora", dora=True, steps=3, learning_rate=1e-2)
    config = replace(config, sample_images=1, sample_every=0, lora_targets="attention")
    folder = dreambooth(config, catalog, tmp_path)
    assert catalog.get("fido").manifest.kind == "checkpoint"
    pipeline = load_pipeline("fido", catalog, torch.device("cpu"), torch.float32)
    base = load_pipeline("tiny", catalog, torch.device("cpu"), torch.float32)
    names = dict(base.unet.named_parameters())
    changed = {
        name.rsplit(".", 2)[-2]
        for name, value in pipeline.unet.named_parameters()
        if not torch.allclose(value, names[name], atol=5e-3)
    }
    assert changed and changed <= {"to_q", "to_k", "to_v", "0"}
    assert (folder / "preview.png").exists()


def test_the_best_samples_choose_the_weights(
    plain_run: DreamBoothConfig, catalog: Catalog, tmp_path: Path
) -> None:
    config = replace(
        plain_run,
        method="lora",
        steps=4,
        learning_rate=3e-2,
        sample_images=1,
        sample_every=1,
        validate_every=2,
        ema_decay=0.5,
    )
    folder = dreambooth(config, catalog, tmp_path)
    training = catalog.get("fido").manifest.training
    assert set(training["scores"]) == {"0", "1", "2", "3", "4"}
    totals = {int(step): score["total"] for step, score in training["scores"].items()}
    assert totals[training["chosen_step"]] == max(totals[step] for step in range(1, 5))
    assert len(training["validation_losses"]) == 3
    assert training["validated_on"] == "photos of the training itself"
    samples = tmp_path / "runs" / "fido" / "samples"
    chosen = samples / f"step-{training['chosen_step']:06d}.png"
    assert chosen.read_bytes() == (folder / "preview.png").read_bytes()
    assert (folder / "preview_before.png").read_bytes() == (
        samples / "step-000000.png"
    ).read_bytes()
    assert list((tmp_path / "runs" / "fido" / "tensorboard").iterdir())


def test_changed_photos_are_not_taken_from_the_cache(
    plain_run: DreamBoothConfig, catalog: Catalog, tmp_path: Path, rex: Path, two_breeds: Path
) -> None:
    one = prepare(plain_run, catalog, tmp_path).gathered.draws.instance.latents
    again = prepare(plain_run, catalog, tmp_path).gathered.draws.instance.latents
    assert torch.equal(one, again)
    other = prepare(replace(plain_run, seed=1), catalog, tmp_path).gathered.draws.instance.latents
    assert not torch.equal(one, other)
    unflipped = prepare(replace(plain_run, flips=False), catalog, tmp_path)
    assert len(unflipped.gathered.draws.instance.latents) == len(one) // 2
    assert len(list((tmp_path / "cache" / "latents").iterdir())) == 3


def test_textual_inversion_trains_one_token_and_serves_as_a_base(
    plain_run: DreamBoothConfig, catalog: Catalog, tmp_path: Path
) -> None:
    """Alone, then below a LoRA: pivotal tuning."""
    config = replace(plain_run, method="embedding", steps=3, learning_rate=5e-2)
    dreambooth(config, catalog, tmp_path)
    learned = load_pipeline("fido", catalog, torch.device("cpu"), torch.float32)
    base = load_pipeline("tiny", catalog, torch.device("cpu"), torch.float32)
    assert learned.tokenizer.tokenize("a photo of rex dog").count("rex</w>") <= 1
    token = learned.tokenizer("rex", add_special_tokens=False).input_ids
    assert len(token) == 1 and token[0] == len(base.tokenizer)
    table = learned.text_encoder.get_input_embeddings().weight
    before = base.text_encoder.get_input_embeddings().weight
    torch.testing.assert_close(table[: len(before)], before, atol=1e-3, rtol=1e-3)
    start = before[base.tokenizer("dog", add_special_tokens=False).input_ids].mean(dim=0)
    assert (table[token[0]] - start).abs().max() > 0.02
    for one, other in zip(learned.unet.parameters(), base.unet.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    dreambooth(replace(plain_run, name="pivotal", base="fido", method="lora"), catalog, tmp_path)
    assert catalog.get("pivotal").manifest.base == "fido"

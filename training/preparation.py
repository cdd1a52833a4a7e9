"""Everything that a run needs before its first step."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, broadcast, set_seed
from diffusers import DDPMScheduler, StableDiffusionPipeline
from diffusers.training_utils import EMAModel

from models.catalog import Catalog
from models.pipeline import choose_device, choose_dtype, load_pipeline
from training.caching import fingerprint, weights_of
from training.config import ConfigError
from training.dreambooth_config import DreamBoothConfig, Precision
from training.gathering import Gathered, gather
from training.inversion import add_tokens
from training.optimizers import make_optimizer, make_schedule, usual_rate
from training.step import Step
from training.subjects import (
    Subjects,
    read_subjects,
    say_what_was_dropped,
    warn_of_split_names,
)
from training.weights import Parked, Weights, loading_dtype

NOT_OF_THE_RUN = ("description", "replace", "checkpoint_every", "checkpoints_kept")
"""Settings that may change between a run and its continuation."""


@dataclass(frozen=True)
class Run:
    """A run that is ready for its next step."""

    config: DreamBoothConfig
    subjects: Subjects
    resolution: int
    precision: str
    pipeline: StableDiffusionPipeline
    parked: dict[str, Parked]
    """The frozen parts of the pipeline by name; a trained text encoder is not among them."""
    gathered: Gathered
    step: Step
    optimizer: Any
    schedule: Any
    ema: EMAModel | None
    generator: torch.Generator
    """All random numbers of the loop."""
    fingerprint: str
    """Of all that decides how the weights come out."""

    @property
    def weights(self) -> Weights:
        """What is trained."""
        return self.step.weights

    @property
    def device(self) -> torch.device:
        """Where it is trained."""
        device: torch.device = self.step.accelerator.device
        return device

    @property
    def prompts(self) -> list[str]:
        """What the grids show: a row for each subject and one for the class."""
        return [*self.subjects.instance_prompts, self.gathered.class_prompts[0]]


def prepare(
    config: DreamBoothConfig, catalog: Catalog, work: Path, folder: Path | None = None
) -> Run:
    """Read photos and base, fill the caches, set up weights, optimizer and schedule.

    Caches are under `work`, what is parked under `folder` (by default the run's own there).

    Raises ConfigError or ModelsError for what a user can mend.
    """
    subjects = read_subjects(config.dataset, config.breeds, config.split)
    say_what_was_dropped(config.dataset)
    device = choose_device(config.device)
    precision = choose_precision(config.mixed_precision, device)
    accelerator = Accelerator(
        mixed_precision=precision,
        cpu=device.type == "cpu",
        # One step of the schedule for each of the optimizer, however many processes there are.
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )
    if accelerator.num_processes > 1:
        device = accelerator.device
    set_seed(config.seed)
    pipeline = load_pipeline(config.base, catalog, device, loading_dtype(config, precision))
    check_base(pipeline)
    tokens = None
    if config.method == "embedding":
        words = subjects.names, subjects.class_word
        ids = add_tokens(pipeline.tokenizer, pipeline.text_encoder, *words)
        tokens = dict(zip(subjects.names, ids, strict=True))
    warn_of_split_names(subjects, pipeline.tokenizer)
    resolution = choose_resolution(config.resolution, pipeline, subjects)
    base = weights_of(pipeline.unet, pipeline.text_encoder, pipeline.vae)
    with accelerator.main_process_first():  # the others find its files
        gathered = gather(
            config, catalog, subjects, pipeline, accelerator, resolution, work / "cache"
        )

    rate = config.learning_rate or usual_rate(config.method, config.optimizer, pipeline.unet)
    config = replace(config, learning_rate=rate)
    weights = Weights(pipeline, config, precision, tokens)
    frozen = ["vae"] if config.moves_text else ["vae", "text_encoder"]
    for parameter in weights.parameters:
        parameter.data = broadcast(parameter.data)
    parking = (folder or work / "runs" / config.name) / "parked" / str(accelerator.process_index)
    parked = {n: Parked(getattr(pipeline, n), parking / f"{n}.safetensors") for n in frozen}
    optimizer = make_optimizer(config.optimizer, weights.parameters, rate, config.weight_decay)
    schedule = make_schedule(config.schedule, optimizer, rate, config.warmup, config.steps)
    optimizer, schedule = accelerator.prepare(optimizer, schedule)
    ema = None
    if config.ema_decay is not None:
        ema = EMAModel(weights.parameters, config.ema_decay, use_ema_warmup=True, power=0.75)
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    settings = {k: str(v) for k, v in asdict(config).items() if k not in NOT_OF_THE_RUN}
    return Run(
        config=config,
        subjects=subjects,
        resolution=resolution,
        precision=precision,
        pipeline=pipeline,
        parked=parked,
        gathered=gathered,
        step=Step(config, accelerator, weights, scheduler, gathered.texts),
        optimizer=optimizer,
        schedule=schedule,
        ema=ema,
        generator=torch.Generator().manual_seed(config.seed),
        fingerprint=fingerprint([settings, precision, subjects.fingerprint, base]),
    )


def choose_precision(wish: Precision, device: torch.device) -> str:
    """What `accelerate` computes in: `wish`, or the best that `device` has."""
    if wish == "fp16" and device.type == "cpu":
        raise ConfigError("mixed_precision: 'fp16' needs a GPU; use bf16 or no on a CPU")
    if wish != "auto":
        return wish
    names = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "no"}
    return names[choose_dtype(device)]


def check_base(pipeline: StableDiffusionPipeline) -> None:
    """Refuse a base whose U-Net does not go from latents to latents, or of an unknown target."""
    unet, latents = pipeline.unet.config, pipeline.vae.config.latent_channels
    if unet.in_channels != latents:
        raise ConfigError(
            f"base: its U-Net takes {unet.in_channels} channels and its autoencoder gives "
            f"{latents}: inpainting and depth models cannot be trained here"
        )
    kind = pipeline.scheduler.config.prediction_type
    if kind not in ("epsilon", "v_prediction"):
        raise ConfigError(f"base: its prediction_type {kind!r} is neither epsilon nor v_prediction")


def choose_resolution(
    wish: int | None, pipeline: StableDiffusionPipeline, subjects: Subjects
) -> int:
    """The side in pixels to train at: `wish`, or the base's own."""
    factor = pipeline.vae_scale_factor
    resolution = wish or int(pipeline.unet.config.sample_size * factor)
    side = subjects.pictures.shape[-1]
    if side < resolution:
        raise ConfigError(
            f"resolution: the base draws {resolution} px, the dataset has {side} px; "
            f"prepare it with --resolution {resolution} or more"
        )
    if resolution % factor:
        raise ConfigError(f"resolution: {resolution} is not a multiple of {factor}")
    return resolution

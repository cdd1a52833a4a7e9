"""Trainings: what may be set, how one stands, what its stream of events says."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.catalog import MAX_DESCRIPTION
from api.schemas.generate import Prompt, StrictBody
from api.schemas.service import Failure
from api.trainings.presets import Method, Preset

TrainingStateName = Literal[
    "queued", "preparing", "running", "evaluating", "succeeded", "failed", "cancelled"
]


class TrainingSettings(StrictBody):
    """Single settings of the trainer, each instead of what the preset says.

    `training/dreambooth_config.py` explains them; those that name files, the device or another
    model are not among them.
    """

    model_config = ConfigDict(extra="forbid")

    steps: int | None = Field(
        None, ge=1, le=100_000, description="Of the optimizer.", examples=[400]
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=10,
        description="Of the optimizer; without it, what suits the method and the base.",
        examples=[5e-4],
    )
    batch_size: int | None = Field(None, ge=1, le=64, description="Photos a step.", examples=[4])
    gradient_accumulation: int | None = Field(
        None, ge=1, le=64, description="Batches before each step.", examples=[1]
    )
    train_text_encoder: bool | None = Field(
        None, description="Train the text encoder as well.", examples=[True]
    )
    train_only: list[Prompt] | None = Field(
        None,
        max_length=100,
        description="With the method `full`: parts of the names of the weights to train.",
        examples=[["attn2"]],
    )
    split: Literal["all", "train"] | None = Field(
        None, description="`train` leaves out a dataset's test photos.", examples=["train"]
    )
    rank: int | None = Field(None, ge=1, le=512, description="Of a LoRA.", examples=[16])
    alpha: float | None = Field(
        None, gt=0, le=1024, description="A LoRA is scaled by alpha / rank.", examples=[16.0]
    )
    lora_targets: Literal["attention", "attention+convolutions"] | None = Field(
        None, description="Which layers a LoRA adapts.", examples=["attention+convolutions"]
    )
    dora: bool | None = Field(None, description="Weight-decomposed LoRA.", examples=[False])
    prior: Literal["generated", "breeds", "prediction", "none"] | None = Field(
        None, description="What the class is held to.", examples=["generated"]
    )
    prior_loss_weight: float | None = Field(
        None, ge=0, le=100, description="0 does without.", examples=[1.0]
    )
    class_prompts: list[Prompt] | None = Field(
        None,
        max_length=100,
        description="What the prior keeps.",
        examples=[["a photo of a dog"]],
    )
    class_images: int | None = Field(
        None, ge=1, le=1000, description="Drawn for the prior.", examples=[48]
    )
    class_breeds: list[Prompt] | None = Field(
        None,
        max_length=120,
        description="With the prior `breeds`: breeds of the dataset whose photos hold the class; "
        "without, all that are not learned.",
        examples=[["pug", "beagle"]],
    )
    optimizer: Literal["adamw", "adamw8bit", "prodigy", "adafactor"] | None = Field(
        None, description="Prodigy wants a learning rate of 1.", examples=["adamw"]
    )
    weight_decay: float | None = Field(
        None, ge=0, le=1, description="Of the optimizer.", examples=[0.01]
    )
    schedule: (
        Literal["constant", "constant_with_warmup", "linear", "cosine", "polynomial", "one_cycle"]
        | None
    ) = Field(None, description="Of the learning rate.", examples=["cosine"])
    warmup: int | None = Field(
        None, ge=0, le=100_000, description="Steps of a rising rate.", examples=[20]
    )
    snr_gamma: float | None = Field(
        None, gt=0, le=100, description="Min-SNR weighting.", examples=[5.0]
    )
    noise_offset: float | None = Field(
        None, ge=0, le=1, description="For darker and lighter pictures.", examples=[0.05]
    )
    caption_dropout: float | None = Field(
        None, ge=0, lt=1, description="Share of empty captions.", examples=[0.1]
    )
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="Publish a moving average.", examples=[0.995]
    )
    crops_per_photo: int | None = Field(
        None, ge=1, le=64, description="Of each photo.", examples=[4]
    )
    flips: bool | None = Field(None, description="Mirror images too.", examples=[True])
    frontal_bias: float | None = Field(
        None, ge=0, le=20, description="Draw faces from the front more often.", examples=[6.0]
    )
    box_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of whole animals, where there are heads too.",
        examples=[0.05],
    )
    resolution: int | None = Field(
        None, ge=16, le=2048, description="Pixels; the base's own where unset.", examples=[128]
    )
    mixed_precision: Literal["auto", "fp16", "bf16", "no"] | None = Field(
        None, description="What is computed in.", examples=["auto"]
    )
    gradient_checkpointing: bool | None = Field(
        None, description="Less memory, more time.", examples=[False]
    )
    max_grad_norm: float | None = Field(
        None, gt=0, le=1000, description="Gradients are clipped to it.", examples=[1.0]
    )
    validate_every: int | None = Field(
        None, ge=0, le=100_000, description="Steps between two validation losses.", examples=[25]
    )
    sample_every: int | None = Field(
        None, ge=0, le=100_000, description="Steps between two grids of samples.", examples=[100]
    )
    sample_images: int | None = Field(
        None, ge=0, le=16, description="Pictures a prompt in each grid.", examples=[4]
    )
    early_stop: float | None = Field(
        None, ge=0, le=1, description="Stop when the loss has settled; 0: never.", examples=[0.15]
    )
    seed: int | None = Field(
        None, ge=0, lt=2**32, description="Of every random number.", examples=[0]
    )
    description: str | None = Field(
        None, max_length=MAX_DESCRIPTION, description="Of the model.", examples=["Rex, our dog."]
    )


class Estimate(BaseModel):
    """What the trainer expects of the run, before its first step."""

    seconds: float | None = Field(
        description="Of steps and samples, the preparations not counted; null where it does not "
        "fit.",
        examples=[71.5],
    )
    memory: int = Field(
        ge=0,
        description="Bytes of weights, gradients, optimizer and activations.",
        examples=[310_000_000],
    )
    fits: bool = Field(description="Whether the device has as much free.", examples=[True])


class Sample(BaseModel):
    """A grid that the run drew on its way."""

    step: int = Field(ge=0, description="Steps taken by then; 0 is the base.", examples=[100])
    url: str = Field(
        description="Where the PNG is: a row of pictures for each thing it learns, one for the "
        "class.",
        examples=["/trainings/3f1c9f0f8a5e4c0b9a3d1f6f2d7b8c9e/samples/100"],
    )


class TrainingState(BaseModel):
    """Where one training stands."""

    model_config = ConfigDict(populate_by_name=True)

    id: str = Field(
        description="Names it in `/trainings/{id}`.",
        examples=["3f1c9f0f8a5e4c0b9a3d1f6f2d7b8c9e"],
    )
    name: str = Field(description="What its model is to be called.", examples=["rex"])
    state: TrainingStateName = Field(
        description="The last three are final, until it is resumed.", examples=["running"]
    )
    position: int | None = Field(
        ge=0,
        description="While it is queued: how many are ahead of it; null otherwise.",
        examples=[None, 1],
    )
    class_word: str = Field(
        serialization_alias="class",
        validation_alias="class",
        description="What the photos show.",
        examples=["dog"],
    )
    base: str = Field(description="The model that it starts from.", examples=["dogbooth-base"])
    method: Method = Field(description="What is trained.", examples=["lora"])
    preset: Preset = Field(description="Where its settings come from.", examples=["quick"])
    settings: dict[str, Any] = Field(
        description="The trainer's settings, the preset's and the single ones.",
        examples=[{"steps": 400, "rank": 16}],
    )
    photos: int = Field(ge=0, description="How many photos were sent.", examples=[5])
    breeds: list[str] = Field(
        description="The breeds that it learns instead of photos.", examples=[["pug"]]
    )
    step: int | None = Field(ge=0, description="Steps taken.", examples=[120])
    steps: int | None = Field(ge=1, description="Of so many at most.", examples=[400])
    loss: float | None = Field(description="Mean of the last 50 steps.", examples=[0.1432])
    seconds_left: float | None = Field(description="While it takes steps.", examples=[41.0])
    memory: int | None = Field(
        ge=0, description="Bytes that the run held last.", examples=[1_200_000_000]
    )
    estimate: Estimate | None = Field(description="Once it is prepared.", examples=[None])
    error: Failure | None = Field(description="Once failed: why.", examples=[None])
    model: str | None = Field(
        description="Once succeeded: the name to ask for in `model`.", examples=[None, "rex"]
    )
    samples: list[Sample] = Field(description="The grids there are, the first first.")
    attempts: int = Field(ge=0, description="How often a process was started for it.", examples=[1])
    created: datetime = Field(description="When it came in.", examples=["2026-01-31T12:00:00Z"])
    started: datetime | None = Field(
        description="When its first process was started.", examples=["2026-01-31T12:00:04Z"]
    )
    ended: datetime | None = Field(
        description="When it came to its final state; null until then.",
        examples=[None, "2026-01-31T12:01:09Z"],
    )


class TrainingPage(BaseModel):
    """Some trainings, newest first."""

    trainings: list[TrainingState] = Field(description="As `GET /trainings/{id}` tells them.")
    next: str | None = Field(
        description="The `cursor` of the next page; null on the last one.",
        examples=["MjAyNi0wMS0zMVQxMjowMDowMCswMDowMCAwZjhmYWQ1Yg=="],
    )


class SampleList(BaseModel):
    """The grids of one training."""

    samples: list[Sample] = Field(description="The first first.")

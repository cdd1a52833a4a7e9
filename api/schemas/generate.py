"""What to draw, and the pictures that were drawn."""

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from models.admission import DEFAULT_STRENGTH, MAX_GUIDANCE_SCALE, MAX_SEED
from models.overlay import MAX_WORDS
from models.picture import PictureFormat
from models.schedulers import SCHEDULERS

MIN_SIDE, MAX_SIDE = 16, 2048
MAX_STEPS = 150
MAX_IMAGES = 16
MAX_UPSCALE = 8
MAX_PROMPT_LENGTH = 1000
MAX_TIMEOUT = 86400.0
"""Seconds; the service's own bound (DOGBOOTH_REQUEST_TIMEOUT) is usually lower."""
MAX_IMAGE_BYTES = 10_000_000
MAX_DATA_URL_LENGTH = MAX_IMAGE_BYTES * 4 // 3 + 100
EXAMPLE_PICTURE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mM4uSAZAAQCAc14xhe1AAAAAElFTkSuQmCC"
)

NO_NUL = r"^[^\x00]*$"
NOT_BLANK = r"^[^\x00]*[^\s\x00][^\x00]*$"
Prompt = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=MAX_PROMPT_LENGTH, pattern=NOT_BLANK
    ),
]


def whole(value: Any) -> Any:
    """JSON knows one kind of number: 25.0 is a whole one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class StrictBody(BaseModel):
    """A body whose strings are never taken for numbers."""

    model_config = ConfigDict(strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        return whole(value)


class Drawing(StrictBody):
    """What every way of asking for pictures has in common."""

    prompt: Prompt = Field(
        description="What the picture shows, in English or Spanish.",
        examples=["un perro golden retriever en la playa"],
    )
    negative_prompt: str = Field(
        default="",
        max_length=MAX_PROMPT_LENGTH,
        pattern=NO_NUL,
        description="What the picture should not show.",
        examples=["blurry"],
    )
    model: str | None = Field(
        default=None,
        max_length=64,
        description="A name from `GET /models`; the service's default model where left out.",
        examples=["dogbooth-breeds"],
    )
    steps: int | None = Field(
        default=None,
        ge=1,
        le=MAX_STEPS,
        description="Denoising steps: more take longer and add detail.",
        examples=[25],
    )
    guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=MAX_GUIDANCE_SCALE,
        allow_inf_nan=False,
        description="How strictly the picture follows the prompt; 1 and below: no guidance.",
        examples=[4.0],
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=MAX_SEED,
        description="The same seed and request give the same picture (the same bytes while the "
        "service has no other work); drawn at random if left out.",
        examples=[42],
    )
    scheduler: str | None = Field(
        default=None,
        description="The sampler.",
        examples=["ddim"],
        json_schema_extra={"enum": [*SCHEDULERS, None]},
    )


class GenerateRequest(Drawing):
    """What to draw. Only `prompt` is needed; the rest comes from the model's own defaults."""

    model_config = ConfigDict(extra="forbid")

    width: int | None = Field(
        default=None,
        ge=MIN_SIDE,
        le=MAX_SIDE,
        description="Pixels, a multiple of what the model needs; its native size where left out.",
        examples=[128],
    )
    height: int | None = Field(
        default=None,
        ge=MIN_SIDE,
        le=MAX_SIDE,
        description="Pixels, a multiple of what the model needs; its native size where left out.",
        examples=[128],
    )
    upscale: int = Field(
        default=1,
        ge=1,
        le=MAX_UPSCALE,
        description="How many times wider and higher than drawn the picture becomes, by a decoder "
        "of its own: 1, or what the model's `upscale` says.",
        examples=[2],
    )
    n: int = Field(
        default=1,
        ge=1,
        le=MAX_IMAGES,
        description="How many pictures; the seeds count up from `seed`.",
        examples=[1],
    )
    format: PictureFormat | None = Field(
        default=None,
        description="The file format; png where neither this nor the Accept header names one.",
        examples=["png"],
    )
    init_image: str | None = Field(
        default=None,
        max_length=MAX_DATA_URL_LENGTH,
        description="A picture to start from: a data URL (RFC 2397) of a PNG, JPEG or WebP in "
        f"base64, {MAX_IMAGE_BYTES} bytes at most. Scaled to `width` and `height`.",
        examples=[EXAMPLE_PICTURE],
    )
    strength: float | None = Field(
        default=None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="How much of `init_image` is drawn anew, from hardly anything to everything "
        f"at 1; {DEFAULT_STRENGTH} where left out. Needs `init_image`.",
        examples=[0.6],
    )
    preview_every: int = Field(
        default=0,
        ge=0,
        le=MAX_STEPS,
        description="Steps of a picture between two `preview` events; 0: none.",
        examples=[5],
    )
    attention: bool = Field(
        default=False,
        description="Whether to also store, for each word of the prompt, a heat map of where the "
        f"U-Net looked for it (the first {MAX_WORDS} words).",
        examples=[False],
    )
    timeout: float | None = Field(
        default=None,
        gt=0,
        le=MAX_TIMEOUT,
        allow_inf_nan=False,
        description="Seconds, the wait in the queue included, after which the request fails with "
        "the code `timeout`; the service's own bound is the default and the most.",
        examples=[60.0],
    )

    @field_validator("strength")
    @classmethod
    def _needs_init_image(cls, strength: float | None, info: ValidationInfo) -> float | None:
        if strength is not None and info.data.get("init_image", "") is None:
            raise ValueError("needs an init_image")
        return strength


def describe_form(schema: dict[str, Any]) -> None:
    """A form's field may be left out, but is never null."""
    for field in schema["properties"].values():
        for variant in field.pop("anyOf", []):
            if variant != {"type": "null"}:
                field.update(variant)


def _describe_generate_form(schema: dict[str, Any]) -> None:
    describe_form(schema)
    described = schema["properties"]["init_image"]
    for key in ("maxLength", "examples"):
        del described[key]
    described["contentMediaType"] = "application/octet-stream"
    described["description"] = (
        f"A picture to start from: a PNG, JPEG or WebP file of {MAX_IMAGE_BYTES} bytes at most. "
        "Scaled to `width` and `height`."
    )


class GenerateForm(GenerateRequest):
    """The same as a form, whose fields are text and files."""

    model_config = ConfigDict(strict=False, json_schema_extra=_describe_generate_form)


class HeatMapInfo(BaseModel):
    """Where the U-Net looked for one word: a heat map over the picture."""

    word: str = Field(description="Of the prompt, as its tokens say it.", examples=["beach"])
    id: str = Field(
        description="Hash of the file's bytes.", examples=["7d793037a0760186574b0282f2f435e7"]
    )
    url: str = Field(
        description="Where to get the file, relative to this service.",
        examples=["/images/7d793037a0760186574b0282f2f435e7"],
    )
    share: float = Field(
        ge=0,
        le=1,
        description="The mean part of a pixel's attention that it got; the rest went to other "
        "words and to the prompt's start and end.",
        examples=[0.08],
    )


class PictureInfo(BaseModel):
    """One picture that was made and stored."""

    id: str = Field(
        description="Hash of the file's bytes.", examples=["5d41402abc4b2a76b9719d911017c592"]
    )
    url: str = Field(
        description="Where to get the file, relative to this service.",
        examples=["/images/5d41402abc4b2a76b9719d911017c592"],
    )
    seed: int = Field(ge=0, le=MAX_SEED, description="What makes it again.", examples=[42])
    seconds: float = Field(
        ge=0, description="Time that denoising and decoding took.", examples=[1.9]
    )
    width: int = Field(ge=1, description="Pixels.", examples=[128])
    height: int = Field(ge=1, description="Pixels.", examples=[128])
    format: PictureFormat = Field(description="The file format.", examples=["png"])
    flagged: bool | None = Field(
        default=None,
        description="Whether the base's safety checker finds it unfit; null where none was asked.",
        examples=[None, False],
    )
    attention: list[HeatMapInfo] = Field(
        default=[], description="In the order of the prompt's words, where it was asked for."
    )


class Parameters(BaseModel):
    """What the pictures were made with, defaults filled in."""

    negative_prompt: str = Field(description="As asked.", examples=[""])
    steps: int = Field(ge=1, description="Denoising steps.", examples=[25])
    guidance_scale: float = Field(ge=0, description="Strength of the prompt.", examples=[4.0])
    scheduler: str = Field(description="The sampler.", examples=["ddim"])
    width: int = Field(ge=1, description="Pixels.", examples=[128])
    height: int = Field(ge=1, description="Pixels.", examples=[128])
    upscale: int = Field(
        default=1, ge=1, description="How much larger than that the pictures are.", examples=[1]
    )
    strength: float | None = Field(
        gt=0, le=1, description="Of `init_image`; null where there was none.", examples=[0.6]
    )


class GenerateAnswer(BaseModel):
    """The pictures of one request."""

    id: str = Field(
        description="The generation's id.", examples=["0f8fad5bd9cb469fa16570867728950e"]
    )
    model: str = Field(description="The model that drew.", examples=["dogbooth-breeds"])
    prompt: str = Field(description="As asked.", examples=["un perro golden retriever en la playa"])
    images: list[PictureInfo] = Field(description="In the order of their seeds.")
    parameters: Parameters = Field(description="What the pictures were made with.")
    warnings: list[str] = Field(
        description="What the caller may not expect of these pictures.",
        examples=[["the model 'rex' was not trained on the breed 'pug': it draws a dog"]],
    )
    seconds: float = Field(
        ge=0, description="From the request to the answer, the queue included.", examples=[2.1]
    )

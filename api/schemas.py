"""The bodies of requests and answers; what stands here is what /docs shows."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from models.admission import MAX_GUIDANCE_SCALE, MAX_SEED
from models.manifest import Kind
from models.picture import PictureFormat
from models.schedulers import SCHEDULERS

MIN_SIDE, MAX_SIDE = 16, 2048
MAX_STEPS = 150
MAX_IMAGES = 16
MAX_PROMPT_LENGTH = 1000

NO_NUL = r"^[^\x00]*$"
Prompt = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=MAX_PROMPT_LENGTH, pattern=NO_NUL
    ),
]


class GenerateRequest(BaseModel):
    """What to draw. Only `prompt` is needed; the rest comes from the model's own defaults."""

    model_config = ConfigDict(extra="forbid", strict=True)

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
        description="The same seed and request give the same bytes; drawn at random if left out.",
        examples=[42],
    )
    scheduler: str | None = Field(
        default=None,
        description="The sampler.",
        examples=["ddim"],
        json_schema_extra={"enum": [*SCHEDULERS, None]},
    )
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


class Parameters(BaseModel):
    """What the pictures were made with, defaults filled in."""

    negative_prompt: str = Field(description="As asked.", examples=[""])
    steps: int = Field(ge=1, description="Denoising steps.", examples=[25])
    guidance_scale: float = Field(ge=0, description="Strength of the prompt.", examples=[4.0])
    scheduler: str = Field(description="The sampler.", examples=["ddim"])
    width: int = Field(ge=1, description="Pixels.", examples=[128])
    height: int = Field(ge=1, description="Pixels.", examples=[128])


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


class ModelInfo(BaseModel):
    """One model of the catalog."""

    name: str = Field(description="What `model` in a request says.", examples=["dogbooth-breeds"])
    kind: Kind = Field(description="How its weights are stored.", examples=["adapter"])
    base: str | None = Field(
        description="The model it adapts or was trained from.", examples=["dogbooth-base"]
    )
    description: str = Field(description="What it draws.", examples=["Six breeds of dogs."])
    class_prompt: str | None = Field(
        description="The prompt of the class it belongs to.", examples=["a photo of a dog"]
    )
    instance_prompts: list[str] = Field(
        description="What to write to get what it was taught.",
        examples=[["a photo of a golden retriever dog"]],
    )
    breeds: list[str] = Field(
        description="Breeds it was trained on, its base's left out.", examples=[["pug", "beagle"]]
    )
    resolution: int = Field(ge=1, description="Native width and height.", examples=[128])
    size_multiple: int = Field(
        ge=1, description="`width` and `height` must be multiples of this.", examples=[32]
    )
    default_steps: int = Field(ge=1, description="Steps where none are asked.", examples=[25])
    default_guidance_scale: float = Field(
        ge=0, description="Guidance where none is asked.", examples=[4.0]
    )
    default_scheduler: str = Field(description="Sampler where none is asked.", examples=["ddim"])
    created: datetime = Field(description="When it was made.", examples=["2026-01-31T12:00:00Z"])
    default: bool = Field(description="Used when a request names no model.", examples=[True])
    resident: bool = Field(description="In memory now: it answers at once.", examples=[True])


class ModelDetail(ModelInfo):
    """One model with how it was made and how good it is."""

    training: dict[str, Any] = Field(
        description="Resolved config, seed, data fingerprint, versions.",
        examples=[{"seed": 0, "steps": 800}],
    )
    evaluation: dict[str, Any] = Field(
        description="Metrics of its evaluation.", examples=[{"fid": 61.2}]
    )


class ModelList(BaseModel):
    """What can be asked for."""

    models: list[ModelInfo] = Field(description="By name.")


class BreedInfo(BaseModel):
    """One breed of Stanford Dogs."""

    name: str = Field(description="English name.", examples=["golden retriever"])
    spanish: str = Field(description="Spanish name.", examples=["golden retriever"])
    synset: str = Field(description="WordNet id.", examples=["n02099601"])
    models: list[str] = Field(
        description="Models that were trained on it, or whose base was.",
        examples=[["dogbooth-base", "dogbooth-breeds"]],
    )


class BreedList(BaseModel):
    """The 120 breeds."""

    breeds: list[BreedInfo] = Field(description="In the order of the data set.")


class Health(BaseModel):
    """The process answers."""

    status: str = Field(description="Always `ok`.", examples=["ok"])


class Readiness(BaseModel):
    """The engine has a model in memory and takes requests."""

    device: str = Field(description="Where pictures are made.", examples=["cpu"])
    dtype: str = Field(description="The numbers of the weights.", examples=["bfloat16"])
    queued: int = Field(ge=0, description="Requests that wait.", examples=[0])
    running: int = Field(ge=0, description="Requests being made.", examples=[1])
    queue_limit: int = Field(ge=1, description="Requests that may wait.", examples=[16])
    resident: list[str] = Field(description="Models in memory.", examples=[["dogbooth-breeds"]])


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str = Field(description="For programs: never changes.", examples=["invalid_request"])
    message: str = Field(
        description="For people: names the field and the value.",
        examples=["steps 1000: Input should be less than or equal to 150"],
    )
    request_id: str = Field(
        description="Also in the X-Request-ID header and in the service's log.",
        examples=["7c9e6679f7c1440eab9f9a0f1d3c7c2a"],
    )


class ErrorAnswer(BaseModel):
    """The one shape of every error."""

    error: ErrorBody = Field(description="Its code, message and request id.")

"""The bodies of AUTOMATIC1111's WebUI API, as far as its clients need them here."""

from typing import Any

from pydantic import BaseModel, Field

from api.schemas.generate import (
    EXAMPLE_PICTURE,
    MAX_DATA_URL_LENGTH,
    MAX_IMAGES,
    MAX_PROMPT_LENGTH,
    MAX_SIDE,
    MAX_STEPS,
    MAX_UPSCALE,
    MIN_SIDE,
    NO_NUL,
    Prompt,
    StrictBody,
)
from models.admission import DEFAULT_STRENGTH, MAX_GUIDANCE_SCALE, MAX_SEED

EXAMPLE_BASE64 = EXAMPLE_PICTURE.partition(",")[2]


class OverrideSettings(StrictBody):
    """Options for one request; others than these are ignored."""

    sd_model_checkpoint: str | None = Field(
        default=None, max_length=64, description="The model.", examples=[None]
    )


class Txt2Img(StrictBody):
    """What to draw, in the WebUI's words; fields that are not listed here are ignored."""

    prompt: Prompt = Field(
        description="What the picture shows; `<lora:NAME:1>` draws with that adapter.",
        examples=["un perro golden retriever en la playa"],
    )
    negative_prompt: str | None = Field(
        default=None,
        max_length=MAX_PROMPT_LENGTH,
        pattern=NO_NUL,
        description="What the picture should not show.",
        examples=["blurry"],
    )
    seed: int | None = Field(
        default=-1, ge=-1, le=MAX_SEED, description="-1: at random.", examples=[42]
    )
    sampler_name: str | None = Field(
        default=None,
        max_length=64,
        description="A name or an alias from `/sdapi/v1/samplers`; the model's own if left out.",
        examples=["Euler a"],
    )
    sampler_index: str | None = Field(
        default=None,
        max_length=64,
        description="As `sampler_name`, which goes before it.",
        examples=["Euler a"],
    )
    scheduler: str | None = Field(
        default=None,
        max_length=64,
        description="A name or a label from `/sdapi/v1/schedulers`.",
        examples=["automatic"],
    )
    steps: int | None = Field(
        default=None,
        ge=1,
        le=MAX_STEPS,
        description="Denoising steps; the model's own if left out.",
        examples=[20],
    )
    cfg_scale: float | None = Field(
        default=None,
        ge=0,
        le=MAX_GUIDANCE_SCALE,
        allow_inf_nan=False,
        description="How strictly the picture follows the prompt; the model's own if left out.",
        examples=[7.0],
    )
    width: int | None = Field(
        default=None,
        ge=MIN_SIDE,
        le=MAX_SIDE,
        description="Pixels; the model's native size where left out.",
        examples=[128],
    )
    height: int | None = Field(
        default=None,
        ge=MIN_SIDE,
        le=MAX_SIDE,
        description="Pixels; the model's native size where left out.",
        examples=[128],
    )
    enable_hr: bool | None = Field(
        default=False,
        description="Whether the pictures are made larger than drawn, by `hr_scale`.",
        examples=[False],
    )
    hr_scale: float | None = Field(
        default=2.0,
        ge=1,
        le=MAX_UPSCALE,
        allow_inf_nan=False,
        description="How many times wider and higher, where `enable_hr` is set: a whole number "
        "that the model's `upscale` allows.",
        examples=[2],
    )
    batch_size: int | None = Field(
        default=1, ge=1, le=MAX_IMAGES, description="Pictures of a batch.", examples=[1]
    )
    n_iter: int | None = Field(
        default=1, ge=1, le=MAX_IMAGES, description="Batches; the pictures multiply.", examples=[1]
    )
    override_settings: OverrideSettings | None = Field(
        default=None,
        description="Options for this request alone.",
        examples=[{}],
    )
    send_images: bool | None = Field(
        default=True, description="Whether the answer holds the pictures.", examples=[True]
    )


class Img2Img(Txt2Img):
    """A picture to draw anew; a mask is not supported and is refused."""

    init_images: list[str] = Field(
        min_length=1,
        max_length=1,
        description="The picture to start from: a PNG, JPEG or WebP in base64, or as a data URL.",
        examples=[[EXAMPLE_BASE64]],
    )
    denoising_strength: float | None = Field(
        default=DEFAULT_STRENGTH,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="How much is drawn anew, up to everything at 1.",
        examples=[0.6],
    )
    mask: None = Field(default=None, description="Not supported.", examples=[None])


class WebUiPictures(BaseModel):
    """What was drawn."""

    images: list[str] = Field(
        description="The files in base64; none where it was interrupted.",
        examples=[[EXAMPLE_BASE64]],
    )
    parameters: dict[str, Any] = Field(
        description="As asked.", examples=[{"prompt": "a photo of a pug dog"}]
    )
    info: str = Field(
        description="JSON: what they were made with, defaults filled in.",
        examples=['{"seed": 42, "all_seeds": [42]}'],
    )


class SdModel(BaseModel):
    """One model that may be chosen as checkpoint."""

    title: str = Field(description="What `sd_model_checkpoint` says.", examples=["dogbooth-base"])
    model_name: str = Field(description="The same.", examples=["dogbooth-base"])
    hash: str | None = Field(default=None, description="None is kept.", examples=[None])
    sha256: str | None = Field(default=None, description="None is kept.", examples=[None])
    filename: str = Field(description="Its folder's name.", examples=["dogbooth-base"])
    config: str | None = Field(default=None, description="There is none.", examples=[None])


class Lora(BaseModel):
    """One adapter, for `<lora:NAME:1>` in a prompt."""

    name: str = Field(description="What the tag says.", examples=["dogbooth-breeds"])
    alias: str = Field(description="The same.", examples=["dogbooth-breeds"])
    path: str = Field(description="Its folder's name.", examples=["dogbooth-breeds"])
    metadata: dict[str, Any] = Field(
        description="Its base and what to write to get what it was taught.",
        examples=[{"base": "dogbooth-base", "instance_prompts": ["a photo of rex dog"]}],
    )


class Sampler(BaseModel):
    """One sampler."""

    name: str = Field(description="As the WebUI calls it.", examples=["Euler a"])
    aliases: list[str] = Field(
        description="As `POST /generate` calls it.", examples=[["euler_ancestral"]]
    )
    options: dict[str, str] = Field(description="Its variants.", examples=[{}])


class NoiseSchedule(BaseModel):
    """How a sampler's steps are spaced."""

    name: str = Field(description="What `scheduler` says.", examples=["karras"])
    label: str = Field(description="For people.", examples=["Karras"])
    aliases: list[str] | None = Field(default=None, description="None.", examples=[None])
    default_rho: float = Field(default=-1, description="Not used.", examples=[-1])
    need_inner_model: bool = Field(default=False, description="Not used.", examples=[False])


class Options(BaseModel):
    """The WebUI's options, as far as they mean something here."""

    sd_model_checkpoint: str = Field(
        description="The model of requests that name none.", examples=["dogbooth-breeds"]
    )
    sd_checkpoint_hash: str = Field(default="", description="None is kept.", examples=[""])
    samples_format: str = Field(default="png", description="Always png.", examples=["png"])


class ProgressState(BaseModel):
    """Where the oldest picture of this client that is being drawn stands."""

    skipped: bool = Field(default=False, description="Always false.", examples=[False])
    interrupted: bool = Field(default=False, description="Always false.", examples=[False])
    job: str = Field(default="", description="The generation's id.", examples=[""])
    job_count: int = Field(
        ge=0, description="Requests of this client that are being made.", examples=[1]
    )
    job_timestamp: str = Field(
        default="0", description="When it came in.", examples=["20260131120000"]
    )
    job_no: int = Field(default=0, description="Always 0.", examples=[0])
    sampling_step: int = Field(ge=0, description="Steps taken.", examples=[12])
    sampling_steps: int = Field(ge=0, description="What they count up to.", examples=[25])


class Progress(BaseModel):
    """How far the drawing is."""

    progress: float = Field(ge=0, le=1, description="0 while nothing is drawn.", examples=[0.48])
    eta_relative: float = Field(ge=0, description="Seconds that are left.", examples=[1.2])
    state: ProgressState = Field(description="In steps.")
    current_image: str | None = Field(
        description="The newest preview, a JPEG in base64.", examples=[None]
    )
    textinfo: str | None = Field(default=None, description="Nothing more.", examples=[None])


class PngInfoRequest(StrictBody):
    """A picture whose parameters are to be read."""

    image: str = Field(
        max_length=MAX_DATA_URL_LENGTH,
        description="A PNG, JPEG or WebP in base64, or as a data URL.",
        examples=[EXAMPLE_BASE64],
    )


class PngInfo(BaseModel):
    """What stands inside a picture."""

    info: str = Field(
        description="Its parameters as text; empty where it has none.",
        examples=["a photo of a pug dog\nSteps: 25, Sampler: DDIM, Seed: 42"],
    )
    items: dict[str, str] = Field(description="The same by key.", examples=[{"parameters": ""}])
    parameters: dict[str, str] = Field(
        description="The same taken apart.",
        examples=[{"Prompt": "a photo of a pug dog", "Steps": "25", "Seed": "42"}],
    )


class Memory(BaseModel):
    """Memory for weights in bytes, where the models run."""

    ram: dict[str, int] = Field(
        description="`free`, `used`, `total` on a CPU; else empty.",
        examples=[{"free": 3, "used": 1, "total": 4}],
    )
    cuda: dict[str, dict[str, int]] = Field(
        description="The same as `system`, on a GPU; else empty.", examples=[{}]
    )


class WebUiError(BaseModel):
    """The shape of the WebUI's errors."""

    error: str = Field(description="For programs: never changes.", examples=["invalid_request"])
    detail: str = Field(
        description="For people: names the field and the value.",
        examples=["steps 1000: Input should be less than or equal to 150"],
    )
    body: str = Field(default="", description="Always empty.", examples=[""])
    errors: str = Field(description="As `detail`.", examples=["steps 1000: ..."])

"""What an operator may set, each by an environment variable that starts with DOGBOOTH_."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ByteSize, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api.keys import Role
from api.schemas.generate import MAX_IMAGES, MAX_SIDE, MAX_STEPS, MAX_TIMEOUT
from models.requests import Limits


class Settings(BaseSettings):
    """The service's settings; `Settings()` reads the environment."""

    model_config = SettingsConfigDict(env_prefix="DOGBOOTH_", use_attribute_docstrings=True)

    home: Path = Path("artifacts")
    """Where published models, made pictures and, by default, the database lie."""
    database_url: str | None = Field(default=None, repr=False)
    """Like postgresql://user:password@host/name; a SQLite file in `home` where unset."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """Where pictures are made: cuda, cuda:1, mps, cpu; auto takes the first of these there is."""
    dtype: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """The numbers of the weights; auto: fp16 on cuda and mps, bf16 on a CPU that has it."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of the engine; torch's own choice where unset."""
    default_model: str | None = None
    """What /generate uses when a request names no model."""
    memory_budget: ByteSize | None = Field(default=None, gt=0)
    """Memory for weights, like 4GB or 1.5GiB; the engine chooses where unset."""
    max_batch: int = Field(default=32, ge=1)
    """Rows of one U-Net call at most; a picture with guidance takes two."""
    preview_decoder: Path | None = None
    """Folder of an AutoencoderTiny that decodes previews; colours of the latents where unset."""
    safety_checker: bool = False
    """Bases that ship a safety checker flag pictures that it finds unfit; they stay as they are."""
    queue_limit: int = Field(default=64, ge=1)
    """Requests that may wait; one more is answered 429."""
    request_timeout: float = Field(default=600.0, gt=0, le=MAX_TIMEOUT)
    """Seconds a request may take at most, its wait in the queue included."""
    keep_days: float | None = Field(default=None, gt=0)
    """Days after which ended generations are removed with their pictures, and ended trainings with
    their photos (models stay); never where unset."""
    keep_bytes: ByteSize | None = Field(default=None, gt=0)
    """Room of all pictures, like 10GB: beyond it the oldest are removed; no bound where unset."""
    allow_anonymous: Role | None = None
    """The role of requests without a key (viewer, artist, trainer, admin), from any address. Where
    unset they are refused, except those from this machine as long as no key was ever made."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Of one client (key or address), as long as its key has no number of its own."""
    pixel_steps_per_day: int | None = Field(default=None, ge=1)
    """Width x height x steps over all pictures of one client, as above."""
    concurrent_jobs: int | None = Field(default=None, ge=1)
    """Generations and trainings of one client that wait or run, as above."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Web pages of these origins may ask, like https://dogs.example; several with commas."""
    log_format: Literal["console", "json"] = "console"
    """One line an event either way."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged; every request is an info."""
    max_side: int = Field(default=1024, ge=16, le=MAX_SIDE)
    """Pixels of width or height that a request may ask for."""
    max_steps: int = Field(default=MAX_STEPS, ge=1, le=MAX_STEPS)
    """Denoising steps of one request."""
    max_upload: ByteSize = Field(default=ByteSize(8 * 10**9), gt=0)
    """Bytes of one uploaded model, and of what an uploaded zip unpacks to, like 8GB."""
    max_images: int = Field(default=8, ge=1, le=MAX_IMAGES)
    """Pictures of one request."""
    max_photos: ByteSize = Field(default=ByteSize(500 * 10**6), gt=0)
    """Bytes of all photos of one training, like 500MB."""
    training_queue_limit: int = Field(default=16, ge=1)
    """Trainings that may wait; one more is answered 429."""
    training_device: str | None = Field(default=None, pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """Where models are trained, one at a time; as `DOGBOOTH_DEVICE` where unset."""

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @property
    def limits(self) -> Limits:
        """What one request may ask of the engine."""
        return Limits(self.max_side, self.max_steps, self.max_images)

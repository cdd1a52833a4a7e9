"""What an operator may set, each by an environment variable that starts with DOGBOOTH_."""

from pathlib import Path
from typing import Literal

from pydantic import ByteSize, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.schemas.generate import MAX_IMAGES, MAX_SIDE, MAX_STEPS, MAX_TIMEOUT


class Settings(BaseSettings):
    """The service's settings; `Settings()` reads the environment."""

    model_config = SettingsConfigDict(env_prefix="DOGBOOTH_")

    home: Path = Path("artifacts")
    """Where published models and made pictures lie."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    dtype: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
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
    queue_limit: int = Field(default=64, ge=1)
    """Requests that may wait; one more is answered 429."""
    request_timeout: float = Field(default=600.0, gt=0, le=MAX_TIMEOUT)
    """Seconds a request may take at most, its wait in the queue included."""
    generations_kept: int = Field(default=256, ge=1)
    """Ended generations that `/generations/{id}` still knows; in memory, gone at a restart."""
    max_side: int = Field(default=1024, ge=16, le=MAX_SIDE)
    max_steps: int = Field(default=MAX_STEPS, ge=1, le=MAX_STEPS)
    max_images: int = Field(default=8, ge=1, le=MAX_IMAGES)

"""What a model is: the `manifest.json` that stands beside its weights."""

from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import InvalidModel

MANIFEST_FILE = "manifest.json"
PIPELINE_FILE = "model_index.json"
ADAPTER_FILE = "pytorch_lora_weights.safetensors"
UPSCALER_FOLDER = "upscaler"
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"

Kind = Literal["base", "checkpoint", "adapter"]


class Manifest(BaseModel):
    """One model folder's description; the weights beside it are safetensors only.

    `base` and `checkpoint` folders are whole diffusers pipelines; an `adapter` folder holds one
    `pytorch_lora_weights.safetensors` in diffusers' LoRA format and names the model it adapts.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
    kind: Kind
    base: str | None = None
    """Catalog name of the base an adapter applies to (or what a checkpoint was trained from)."""
    description: str = ""
    tags: list[str] = []
    class_prompt: str | None = None
    """The prior's prompt, such as `a photo of a dog`."""
    instance_prompts: list[str] = []
    """What to write to get what the model was taught, one prompt a subject."""
    breeds: list[str] = []
    """English names of the Stanford Dogs breeds that the model was trained on."""
    resolution: int
    """Native height and width in pixels."""
    default_steps: int = 25
    default_guidance_scale: float = 4.0
    default_scheduler: str = "ddim"
    created: datetime
    training: dict[str, Any] = {}
    """How it was made: resolved config, seed, data fingerprint, versions of the libraries."""
    evaluation: dict[str, Any] = {}

    def inherited(self) -> dict[str, Any]:
        """The fields that a model built on this one has from it."""
        return self.model_dump(
            include={
                "class_prompt",
                "default_steps",
                "default_guidance_scale",
                "default_scheduler",
            }
        )

    @property
    def weights_file(self) -> str:
        """The file without which a folder of this kind is not a model."""
        return ADAPTER_FILE if self.kind == "adapter" else PIPELINE_FILE


def read_manifest(folder: Path) -> Manifest:
    """Read `folder`/manifest.json; raise InvalidModel, naming file and field, when it is not one.

    The message holds no absolute path: a service passes it on to its clients.
    """
    label = f"{folder.name}/{MANIFEST_FILE}"
    try:
        return Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise InvalidModel(f"{label}: {error.strerror}") from error
    except ValidationError as error:
        reasons = [
            ".".join(map(str, detail["loc"])) + ": " + detail["msg"] for detail in error.errors()
        ]
        raise InvalidModel(f"{label}: " + "; ".join(reasons)) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `folder`/manifest.json; a reader never sees half of it."""
    partial = folder / f".{MANIFEST_FILE}.{uuid4().hex}"
    partial.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / MANIFEST_FILE)

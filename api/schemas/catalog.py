"""Models and breeds, as the service lists them."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from models.manifest import Kind


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

"""Models and breeds, as the service lists them."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.schemas.generate import StrictBody
from models.manifest import Kind

MAX_DESCRIPTION = 2000
MAX_TAGS = 20
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40)]


class ModelInfo(BaseModel):
    """One model of the catalog."""

    name: str = Field(description="What `model` in a request says.", examples=["dogbooth-breeds"])
    kind: Kind = Field(description="How its weights are stored.", examples=["adapter"])
    base: str | None = Field(
        description="The model it adapts or was trained from.", examples=["dogbooth-base"]
    )
    description: str = Field(description="What it draws.", examples=["Six breeds of dogs."])
    tags: list[str] = Field(description="Words to sort it by.", examples=[["dog", "breeds"]])
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
    upscale: int = Field(
        ge=1,
        description="The largest `upscale` that a request may ask for; 1: its base has no decoder "
        "for larger pictures.",
        examples=[2],
    )
    default_steps: int = Field(ge=1, description="Steps where none are asked.", examples=[25])
    default_guidance_scale: float = Field(
        ge=0, description="Guidance where none is asked.", examples=[4.0]
    )
    default_scheduler: str = Field(description="Sampler where none is asked.", examples=["ddim"])
    created: datetime = Field(description="When it was made.", examples=["2026-01-31T12:00:00Z"])
    default: bool = Field(description="Used when a request names no model.", examples=[True])
    resident: bool = Field(description="In memory now: it answers at once.", examples=[True])
    preview: str | None = Field(
        description="Where a picture of what it draws is, if it has one.",
        examples=["/models/dogbooth-breeds/preview.png"],
    )


class ModelDetail(ModelInfo):
    """One model with how it was made and how good it is."""

    training: dict[str, Any] = Field(
        description="Resolved config, seed, data fingerprint, versions.",
        examples=[{"seed": 0, "steps": 800}],
    )
    evaluation: dict[str, Any] = Field(
        description="Metrics of its evaluation.",
        examples=[{"drawn": {"class_rate": 0.75, "top5": 0.48}}],
    )
    size: int = Field(ge=0, description="Bytes on disk.", examples=[3_400_000])
    read_only: bool = Field(
        description="Ships with dogbooth: it can be neither changed nor deleted.", examples=[True]
    )


class ModelChange(StrictBody):
    """What to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    description: str | None = Field(
        default=None,
        max_length=MAX_DESCRIPTION,
        description="What it draws.",
        examples=["Rex, our dog."],
    )
    tags: list[Tag] | None = Field(
        default=None,
        max_length=MAX_TAGS,
        description="Instead of those it has.",
        examples=[["dog"]],
    )
    default: bool | None = Field(
        default=None,
        description="Whether to use it when a request names no model; goes before "
        "DOGBOOTH_DEFAULT_MODEL, until the model is deleted or this is set to false.",
        examples=[True],
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


class DatasetBreed(BaseModel):
    """One breed of a dataset."""

    name: str = Field(description="In English, as `breeds` takes it.", examples=["pug"])
    spanish: str = Field(description="In Spanish, as `breeds` takes it too.", examples=["carlino"])
    photos: int = Field(ge=1, description="How many there are of it.", examples=[150])


class DatasetInfo(BaseModel):
    """One prepared dataset."""

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(description="As `dataset` takes it.", examples=["stanford_dogs"])
    class_word: str = Field(
        serialization_alias="class",
        validation_alias="class",
        description="What its photos show.",
        examples=["dog"],
    )
    breeds: list[DatasetBreed] = Field(description="What can be learned from it.")


class DatasetList(BaseModel):
    """The datasets that were prepared here."""

    datasets: list[DatasetInfo] = Field(description="By their names.")

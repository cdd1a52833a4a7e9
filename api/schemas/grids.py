"""Grids of pictures over one or two settings: what to draw, and how a grid stands."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from api.schemas.generate import MAX_STEPS, Drawing, Prompt, whole
from api.schemas.generations import State
from api.schemas.service import Failure
from models.admission import MAX_GUIDANCE_SCALE, MAX_SEED
from models.grids import MAX_CELLS
from models.schedulers import SCHEDULERS

NAME = "The field of `POST /generate` that differs."


def _values(*example: int | float | str) -> Any:
    return Field(
        min_length=1,
        max_length=MAX_CELLS,
        description="In the order of the grid.",
        examples=[list(example)],
    )


class Axis(BaseModel):
    """One setting and the values that it takes; strict as StrictBody, which no union can hold."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @field_validator("values", mode="before", check_fields=False)
    @classmethod
    def _whole(cls, values: Any) -> Any:
        return [*map(whole, values)] if isinstance(values, list) else values


class PromptAxis(Axis):
    """What the pictures show."""

    name: Literal["prompt"] = Field(description=NAME, examples=["prompt"])
    values: list[Prompt] = _values("a photo of a pug", "una foto de un beagle")


class ModelAxis(Axis):
    """Who draws: names from `GET /models`."""

    name: Literal["model"] = Field(description=NAME, examples=["model"])
    values: list[Annotated[str, StringConstraints(max_length=64)]] = _values(
        "dogbooth-base", "dogbooth-breeds"
    )


class StepsAxis(Axis):
    """Denoising steps."""

    name: Literal["steps"] = Field(description=NAME, examples=["steps"])
    values: list[Annotated[int, Field(ge=1, le=MAX_STEPS)]] = _values(2, 5)


class GuidanceAxis(Axis):
    """How strictly the picture follows the prompt."""

    name: Literal["guidance_scale"] = Field(description=NAME, examples=["guidance_scale"])
    values: list[Annotated[float, Field(ge=0, le=MAX_GUIDANCE_SCALE, allow_inf_nan=False)]] = (
        _values(1.0, 4.0)
    )


class SchedulerAxis(Axis):
    """The sampler."""

    name: Literal["scheduler"] = Field(description=NAME, examples=["scheduler"])
    values: list[Annotated[str, Field(json_schema_extra={"enum": [*SCHEDULERS]})]] = _values(
        "ddim", "euler"
    )


class SeedAxis(Axis):
    """Another noise to start from."""

    name: Literal["seed"] = Field(description=NAME, examples=["seed"])
    values: list[Annotated[int, Field(ge=0, le=MAX_SEED)]] = _values(7, 8)


GridAxis = Annotated[
    PromptAxis | ModelAxis | StepsAxis | GuidanceAxis | SchedulerAxis | SeedAxis,
    Field(discriminator="name"),
]


class GridRequest(Drawing):
    """What every cell has in common, and one or two axes, whose values go before it."""

    model_config = ConfigDict(extra="forbid")

    x: GridAxis = Field(
        description="From left to right.", examples=[{"name": "steps", "values": [2, 5]}]
    )
    y: GridAxis | None = Field(
        default=None,
        description="From top to bottom, another setting than `x`; one row where left out.",
        examples=[{"name": "scheduler", "values": ["ddim", "euler"]}],
    )


class GridPicture(BaseModel):
    """The labelled picture of all cells."""

    id: str = Field(
        description="Hash of the file's bytes.", examples=["5d41402abc4b2a76b9719d911017c592"]
    )
    url: str = Field(
        description="Where to get the PNG, relative to this service.",
        examples=["/images/5d41402abc4b2a76b9719d911017c592"],
    )


class GridState(BaseModel):
    """Where one grid stands."""

    id: str = Field(
        description="Names it in `/grids/{id}`.", examples=["7b1d3c4f6a2e4d0b9c8a5e6f70112233"]
    )
    state: State = Field(
        description="The last three are final and never change.", examples=["running"]
    )
    columns: list[str] = Field(description="Labels above.", examples=[["Steps: 2", "Steps: 5"]])
    rows: list[str] = Field(description="Labels at the left; none without `y`.", examples=[[]])
    generations: list[str] = Field(
        description="The cells that were begun, row by row: each is a generation of its own, "
        "at `/generations/{id}`.",
        examples=[["0f8fad5bd9cb469fa16570867728950e"]],
    )
    finished: int = Field(ge=0, description="Cells that are drawn.", examples=[1])
    cells: int = Field(ge=1, description="Cells in all.", examples=[2])
    created: datetime = Field(description="When it came in.", examples=["2026-01-31T12:00:00Z"])
    ended: datetime | None = Field(
        description="When it came to its final state; null until then.", examples=[None]
    )
    picture: GridPicture | None = Field(description="Once finished.", examples=[None])
    error: Failure | None = Field(description="Once failed: why.", examples=[None])


class CellData(BaseModel):
    """Data of a `cell` event: one more is drawn."""

    index: int = Field(ge=0, description="Which one, row by row.", examples=[0])
    generation: str = Field(
        description="That drew it.", examples=["0f8fad5bd9cb469fa16570867728950e"]
    )
    url: str = Field(
        description="Of its picture.", examples=["/images/5d41402abc4b2a76b9719d911017c592"]
    )
    seconds: float = Field(
        ge=0, description="That it took, other cells in the same batches.", examples=[1.9]
    )
    finished: int = Field(ge=1, description="Cells that are drawn.", examples=[1])
    cells: int = Field(ge=1, description="Cells in all.", examples=[2])

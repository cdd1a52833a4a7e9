"""Grids of pictures over one or two settings: what to draw, and how a grid stands."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.generate import MAX_PROMPT_LENGTH, Drawing, StrictBody
from api.schemas.generations import State
from api.schemas.service import Failure
from models.grids import MAX_CELLS


class GridAxis(StrictBody):
    """One setting and the values that it takes."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["prompt", "model", "steps", "guidance_scale", "scheduler", "seed"] = Field(
        description="A field of `POST /generate`.", examples=["steps"]
    )
    values: list[int | float | str] = Field(
        min_length=1,
        max_length=MAX_CELLS,
        description="In the order of the grid; each as that field takes it.",
        examples=[[2, 5]],
    )


class GridRequest(Drawing):
    """What every cell has in common, and one or two axes."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(
        max_length=MAX_PROMPT_LENGTH,
        description="What the pictures show, where no axis says it.",
        examples=["a photo of a beagle"],
    )
    x: GridAxis = Field(description="From left to right.")
    y: GridAxis | None = Field(
        default=None, description="From top to bottom; one row where left out.", examples=[None]
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

"""A generation's state and its events, for those who do not wait on one answer."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from api.schemas.generate import GenerateAnswer
from api.schemas.service import Failure

State = Literal["queued", "running", "finished", "failed", "cancelled"]


class GenerationState(BaseModel):
    """Where one generation stands."""

    id: str = Field(
        description="Names it in `/generations/{id}`.",
        examples=["0f8fad5bd9cb469fa16570867728950e"],
    )
    model: str = Field(description="The model that draws.", examples=["dogbooth-breeds"])
    prompt: str = Field(description="As asked.", examples=["un perro golden retriever en la playa"])
    state: State = Field(
        description="The last three are final and never change.", examples=["running"]
    )
    position: int | None = Field(
        ge=0,
        description="While it is queued: about how many requests are ahead of it (clients take "
        "turns); null otherwise.",
        examples=[None, 3],
    )
    step: int | None = Field(
        ge=1,
        description="Denoising steps taken, over all its pictures; null before the first.",
        examples=[12],
    )
    steps: int | None = Field(
        ge=1, description="What `step` counts up to; null before the first.", examples=[25]
    )
    created: datetime = Field(description="When it came in.", examples=["2026-01-31T12:00:00Z"])
    started: datetime | None = Field(
        description="When its turn came; null while it is queued.",
        examples=["2026-01-31T12:00:04Z"],
    )
    ended: datetime | None = Field(
        description="When it came to its final state; null until then.",
        examples=[None, "2026-01-31T12:00:09Z"],
    )
    answer: GenerateAnswer | None = Field(
        description="Once finished: what `POST /generate` answers.", examples=[None]
    )
    error: Failure | None = Field(description="Once failed: why.", examples=[None])


class GenerationPage(BaseModel):
    """Some generations, newest first."""

    generations: list[GenerationState] = Field(description="As `GET /generations/{id}` tells them.")
    next: str | None = Field(
        description="The `cursor` of the next page; null on the last one.",
        examples=["MjAyNi0wMS0zMVQxMjowMDowMCswMDowMCAwZjhmYWQ1Yg=="],
    )


class QueuedData(BaseModel):
    """Data of a `queued` event."""

    position: int = Field(ge=0, description="Requests ahead of it.", examples=[3])


class StepData(BaseModel):
    """Data of a `step` event."""

    step: int = Field(ge=1, description="Denoising steps taken.", examples=[12])
    steps: int = Field(ge=1, description="Over all its pictures.", examples=[25])


class PreviewData(BaseModel):
    """Data of a `preview` event."""

    index: int = Field(ge=0, description="Which of its pictures, from 0.", examples=[0])
    step: int = Field(ge=1, description="Steps that this picture has taken.", examples=[10])
    image: str = Field(
        description="A small JPEG as data URL.", examples=["data:image/jpeg;base64,/9j/4AAQSkZJRg"]
    )


class NoData(BaseModel):
    """Data of a `started` or a `cancelled` event: nothing more to say."""

"""What was used and what is left."""

from datetime import datetime

from pydantic import BaseModel, Field

from api.keys import Role


class ModelUsageInfo(BaseModel):
    """What was drawn with one model."""

    model: str = Field(description="Its name.", examples=["dogbooth-breeds"])
    generations: int = Field(ge=0, description="That finished.", examples=[12])
    images: int = Field(ge=0, description="Pictures of these.", examples=[30])
    seconds: float = Field(ge=0, description="That drawing them took.", examples=[61.2])
    last_used: datetime = Field(
        description="When the last one was finished.", examples=["2026-01-31T12:00:09Z"]
    )


class ClientUsage(BaseModel):
    """Who asks, and its limits; null: no bound."""

    key: str | None = Field(description="The key's name; null without one.", examples=["page"])
    role: Role = Field(description="What it may do.", examples=["artist"])
    requests_per_minute: int | None = Field(ge=1, description="At most.", examples=[120])
    pixel_steps_per_day: int | None = Field(
        ge=1, description="Width x height x steps over all pictures, at most.", examples=[10**9]
    )
    pixel_steps_left: int | None = Field(
        ge=0, description="Of these, until the day since the first one is over.", examples=[10**8]
    )
    concurrent_jobs: int | None = Field(
        ge=1, description="Generations and trainings that wait or run, at most.", examples=[4]
    )


class Usage(BaseModel):
    """All models that drew, and the asking client."""

    models: list[ModelUsageInfo] = Field(description="Most pictures first.")
    client: ClientUsage = Field(description="Who asks, and its limits.")

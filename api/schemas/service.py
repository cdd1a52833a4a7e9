"""How the service is, and the one shape of its errors."""

from pydantic import BaseModel, Field


class Health(BaseModel):
    """The process answers."""

    status: str = Field(description="Always `ok`.", examples=["ok"])


class Readiness(BaseModel):
    """The engine has a model in memory and takes requests."""

    device: str = Field(description="Where pictures are made.", examples=["cpu"])
    dtype: str = Field(description="The numbers of the weights.", examples=["bfloat16"])
    queued: int = Field(ge=0, description="Requests that wait.", examples=[0])
    running: int = Field(ge=0, description="Requests being made.", examples=[1])
    queue_limit: int = Field(ge=1, description="Requests that may wait.", examples=[64])
    resident: list[str] = Field(description="Models in memory.", examples=[["dogbooth-breeds"]])
    restarts: int = Field(
        ge=0, description="How often the engine died of an error and was replaced.", examples=[0]
    )


class Failure(BaseModel):
    """Why nothing came of it."""

    code: str = Field(description="For programs: never changes.", examples=["invalid_request"])
    message: str = Field(
        description="For people: names the field and the value.",
        examples=["steps 1000: Input should be less than or equal to 150"],
    )


class PhotoProblem(BaseModel):
    """Why one of the photos of a training cannot be used."""

    photo: str = Field(description="Its file name, as it was sent.", examples=["IMG_2041.jpg"])
    index: int = Field(ge=0, description="Which of the photos, from 0.", examples=[2])
    message: str = Field(
        description="What is wrong with it.", examples=["near-duplicate: IMG_2040.jpg"]
    )


class ErrorBody(Failure):
    """What went wrong."""

    request_id: str = Field(
        description="Also in the X-Request-ID header and in the service's log.",
        examples=["7c9e6679f7c1440eab9f9a0f1d3c7c2a"],
    )
    photos: list[PhotoProblem] | None = Field(
        default=None,
        description="Of `photos_refused` only: one entry for each photo that cannot be used.",
        examples=[None],
    )


class ErrorAnswer(BaseModel):
    """The one shape of every error."""

    error: ErrorBody = Field(description="Its code, message and request id.")

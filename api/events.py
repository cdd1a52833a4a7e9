"""Tells an engine's events in the words of the API, and encodes the pictures that come of them."""

import base64
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from PIL import Image

from api.orders import Order
from api.pictures import PictureFile
from api.schemas.generate import GenerateAnswer, HeatMapInfo, Parameters, PictureInfo
from api.schemas.generations import NoData, PreviewData, QueuedData, StepData
from api.schemas.service import Failure
from models.overlay import mean_share, overlay
from models.picture import encode, parameters_text
from models.requests import (
    Cancelled,
    Event,
    Failed,
    Finished,
    Preview,
    Queued,
    Started,
    Step,
    WordHeat,
)

EventName = Literal["queued", "started", "step", "preview", "finished", "failed", "cancelled"]
Data = QueuedData | StepData | PreviewData | GenerateAnswer | Failure | NoData

PREVIEW_SIDE = 256
"""Pixels; a preview's JPEG has some 10 kB then."""


@dataclass(frozen=True)
class ClientEvent:
    """What happened to a generation, as its clients read it."""

    id: int
    name: EventName
    data: Data
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def final(self) -> bool:
        return self.name in ("finished", "failed", "cancelled")


def encode_pictures(event: Finished, order: Order) -> list[PictureFile]:
    """The files of its pictures, their parameters inside, then those of their heat maps.

    For a thread.
    """

    def file(image: Image.Image, seed: int) -> PictureFile:
        text = parameters_text(event.request, seed)
        return PictureFile(order.picture_format, encode(image, order.picture_format, text))

    pictures = [file(made.image, made.seed) for made in event.images]
    maps = [
        file(overlay(made.image, word.heat), made.seed)
        for made in event.images
        for word in made.attention
    ]
    return [*pictures, *maps]


def tell(
    event: Event, generation_id: str, order: Order, files: Sequence[PictureFile] = ()
) -> ClientEvent:
    """`event` for clients; `files` are the pictures of a finished one. For a thread."""
    match event:
        case Queued():
            return ClientEvent(event.id, "queued", QueuedData(position=event.position))
        case Started():
            return ClientEvent(event.id, "started", NoData())
        case Step():
            return ClientEvent(event.id, "step", StepData(step=event.step, steps=event.steps))
        case Preview():
            data = PreviewData(index=event.index, step=event.step, image=_data_url(event.image))
            return ClientEvent(event.id, "preview", data)
        case Finished():
            answer = _answer(event, generation_id, order, files)
            return ClientEvent(event.id, "finished", answer)
        case Failed():
            return ClientEvent(event.id, "failed", Failure(code=event.code, message=event.message))
        case Cancelled():
            return ClientEvent(event.id, "cancelled", NoData())
    raise TypeError(f"an event that has no name yet: {event!r}")


def _data_url(image: Image.Image) -> str:
    small = image.convert("RGB")
    small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=75)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _heat_map(word: WordHeat, file: PictureFile) -> HeatMapInfo:
    share = round(mean_share(word.heat), 4)
    return HeatMapInfo(word=word.word, id=file.id, url=f"/images/{file.id}", share=share)


def _answer(
    finished: Finished, generation_id: str, order: Order, files: Sequence[PictureFile]
) -> GenerateAnswer:
    request = finished.request
    files, maps = files[: len(finished.images)], iter(files[len(finished.images) :])
    return GenerateAnswer(
        id=generation_id,
        model=request.model,
        prompt=request.prompt,
        images=[
            PictureInfo(
                id=file.id,
                url=f"/images/{file.id}",
                seed=made.seed,
                seconds=round(made.seconds, 3),
                width=made.image.width,
                height=made.image.height,
                format=file.format,
                flagged=made.flagged,
                attention=[_heat_map(word, next(maps)) for word in made.attention],
            )
            for made, file in zip(finished.images, files, strict=True)
        ],
        parameters=Parameters(
            negative_prompt=request.negative_prompt,
            steps=request.steps,
            guidance_scale=request.guidance_scale,
            scheduler=request.scheduler,
            width=request.width,
            height=request.height,
            upscale=request.upscale,
            strength=None if request.init_image is None else request.strength,
        ),
        warnings=order.warnings,
        seconds=round(time.perf_counter() - order.placed, 3),
    )

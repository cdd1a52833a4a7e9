"""Trains models on photos of a client's dog, or on breeds, in the background."""

import re
from collections.abc import AsyncIterator
from pathlib import Path as FolderPath
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, File, Form, HTTPException, Path, Query, Response, UploadFile
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Json

from api.access import Trainer, check_owner, requires
from api.database.tables import TrainingRow
from api.datasets import NAME_PATTERN as DATASET_PATTERN
from api.datasets import prepared_dataset
from api.errors import documented
from api.paging import PageCursor, PageLimit
from api.schemas.generate import NO_NUL
from api.schemas.trainings import (
    SampleList,
    TrainingPage,
    TrainingSettings,
    TrainingState,
    TrainingStateName,
)
from api.service import Service, ServiceDependency
from api.streams import LastEventId, documented_stream, resume_after
from api.trainings.photos import MAX_PHOTOS, MIN_PHOTOS, SentPhoto
from api.trainings.presets import Method, Preset, resolve_settings
from api.trainings.runner import TrainingOrder
from api.trainings.store import ENDED
from api.trainings.telling import event_of, samples_of, state_of
from models.errors import InvalidRequest
from models.manifest import NAME_PATTERN

router = APIRouter(tags=["trainings"])

EVENTS = """\
event: queued
data: {}
id: 0

event: preparing
data: {}
id: 1

event: estimate
data: {"seconds":71.5,"memory":310000000,"fits":true}
id: 2

event: sample
data: {"step":0,"url":"/trainings/3f1c9f0f8a5e4c0b9a3d1f6f2d7b8c9e/samples/0"}
id: 4

event: step
data: {"step":1,"steps":120,"loss":0.21,"seconds_left":70.1,"memory":1200000000}
id: 6

event: succeeded
data: {"model":"rex"}
id: 80
"""
CLASS_PATTERN = r"^[^\W\d_][^\W_]*( [^\W_]+){0,3}$"
"""One to four words."""
BINARY = {"schema": {"type": "string", "format": "binary"}}
LOCATION = {"Location": {"description": "Where to ask for it.", "schema": {"type": "string"}}}


async def _find(
    training_id: Annotated[
        str,
        Path(
            alias="id",
            description="From the Location header or the body of a 202 answer.",
            examples=["3f1c9f0f8a5e4c0b9a3d1f6f2d7b8c9e"],
        ),
    ],
    service: ServiceDependency,
) -> TrainingRow:
    row = None
    if re.fullmatch(r"[0-9a-f]{32}", training_id):
        row = await to_thread.run_sync(service.trainings.store.find, training_id)
    if row is None:
        raise HTTPException(404, f"no training has the id {training_id[:80]!r}")
    return row


TrainingDependency = Annotated[TrainingRow, Depends(_find)]


async def _after(
    row: TrainingDependency, response: Response, last_event_id: LastEventId = None
) -> int:
    final = row.last_event - 1 if row.state in ENDED else None
    return resume_after(last_event_id, final, response)


@router.post(
    "/trainings",
    summary="Train a model of your own dog",
    status_code=202,
    responses={
        202: {"headers": LOCATION, "description": "It is queued."},
        **documented(400, 404, 409, 413, 422, 503),
    },
)
async def start_training(
    caller: Trainer,
    service: ServiceDependency,
    response: Response,
    name: Annotated[
        str,
        Form(
            pattern=NAME_PATTERN,
            description="What to call the dog in prompts, and the model: best a word of no "
            "language.",
            examples=["rex"],
        ),
    ],
    photos: Annotated[
        list[UploadFile],
        File(
            default_factory=list,
            max_length=MAX_PHOTOS,
            description=f"{MIN_PHOTOS} to {MAX_PHOTOS} photos of one dog, best 4 to 6.",
        ),
    ],
    breeds: Annotated[
        list[str] | None,
        Form(
            max_length=120,
            description="Instead of photos: breeds of `dataset`, in English or Spanish.",
            examples=[["pug"]],
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        Form(
            pattern=DATASET_PATTERN,
            description="With breeds: a name from `GET /datasets`.",
            examples=["stanford_dogs"],
        ),
    ] = None,
    class_word: Annotated[
        str | None,
        Form(
            alias="class",
            pattern=CLASS_PATTERN,
            max_length=40,
            description="What the photos show, without it a dog. With breeds `dataset` tells it.",
            examples=["dog"],
        ),
    ] = None,
    base: Annotated[
        str | None,
        Form(
            max_length=64,
            description="The model to start from, none that is itself an adapter; without it the "
            "default model's base.",
            examples=["dogbooth-base"],
        ),
    ] = None,
    method: Annotated[
        Method,
        Form(
            description="`lora`: a small adapter that shares its base with others; `full`: all of "
            "the U-Net, a checkpoint; `embedding`: the name's embedding only.",
            examples=["lora"],
        ),
    ] = "lora",
    preset: Annotated[
        Preset,
        Form(
            description="`quick`: 120 steps, up to three minutes on two busy cores with our "
            "base; `balanced`: 500 steps; `thorough`: 1,500.",
            examples=["quick"],
        ),
    ] = "balanced",
    settings: Annotated[
        Json[TrainingSettings] | None,
        Form(
            description="Single settings of the trainer as a JSON object, instead of the preset's.",
            examples=['{"steps": 200, "seed": 7}'],
        ),
    ] = None,
) -> TrainingState:
    """Queued, then run by a process of its own, one at a time; the model is served when it ends.

    The photos are checked at once: `photos` in the error has a message for each that cannot be
    used. `GET /trainings/{id}` tells how it stands, `/events` as a stream.
    """
    sent = [SentPhoto(photo.filename or "", photo.file) for photo in photos]
    single = {} if settings is None else settings.model_dump(exclude_none=True)
    word, names = await to_thread.run_sync(
        _lesson, service.settings.home, class_word, breeds, dataset, len(sent)
    )
    config = {
        "class": word,
        "base": await to_thread.run_sync(_base, service, base),
        "method": method,
        "preset": preset,
        "settings": resolve_settings(preset, single),
        "photos": len(sent),
        "breeds": names,
        "dataset": dataset,
    }
    order = TrainingOrder(name, config, sent)
    row = await to_thread.run_sync(
        service.trainings.create, order, caller, limiter=service.importing
    )
    response.headers["Location"] = f"/trainings/{row.id}"
    return await to_thread.run_sync(state_of, row, service.trainings.store)


@router.get(
    "/trainings",
    summary="Which trainings were there?",
    dependencies=[requires("viewer")],
    responses=documented(422),
)
async def list_trainings(
    service: ServiceDependency,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
    name: Annotated[
        str | None,
        Query(
            description="Those of one name only.", max_length=64, pattern=NO_NUL, examples=["rex"]
        ),
    ] = None,
    state: Annotated[
        TrainingStateName | None,
        Query(description="Those in one state only.", examples=["succeeded"]),
    ] = None,
) -> TrainingPage:
    """The newest first; what comes in while one reads changes no later page."""
    store = service.trainings.store
    page = await to_thread.run_sync(store.page, limit, cursor, name, state)
    told = await to_thread.run_sync(lambda: [state_of(row, store) for row in page.rows])
    return TrainingPage(trainings=told, next=page.cursor)


@router.get(
    "/trainings/{id}",
    summary="How does a training stand?",
    dependencies=[requires("viewer")],
    responses=documented(404, 422),
)
async def get_training(row: TrainingDependency, service: ServiceDependency) -> TrainingState:
    """Its state, loss, time left and samples; once it has ended, the model or the reason."""
    return await to_thread.run_sync(state_of, row, service.trainings.store)


@router.delete(
    "/trainings/{id}",
    summary="Remove a training",
    status_code=204,
    responses=documented(404, 409, 422),
)
async def delete_training(
    caller: Trainer, row: TrainingDependency, service: ServiceDependency
) -> None:
    """One that has ended, with its photos, checkpoints and samples; its model stays.

    For the one who started it, or an admin.
    """
    check_owner(caller, row.client, "training")
    await to_thread.run_sync(service.trainings.remove, row)


@router.post(
    "/trainings/{id}/cancel",
    summary="Cancel a training",
    responses=documented(404, 422),
)
async def cancel_training(
    caller: Trainer, row: TrainingDependency, service: ServiceDependency
) -> TrainingState:
    """It saves and stops after the step that it is in, then its state is `cancelled`.

    No effect once it has ended. For the one who started it, or an admin.
    """
    check_owner(caller, row.client, "training")
    left = await to_thread.run_sync(service.trainings.cancel, row.id)
    return await to_thread.run_sync(state_of, left or row, service.trainings.store)


@router.post(
    "/trainings/{id}/resume",
    summary="Resume a training",
    responses=documented(404, 409, 422, 503),
)
async def resume_training(
    caller: Trainer, row: TrainingDependency, service: ServiceDependency
) -> TrainingState:
    """One that was cancelled or has failed is queued again, and goes on from its last checkpoint.

    For the one who started it, or an admin.
    """
    check_owner(caller, row.client, "training")
    left = await to_thread.run_sync(service.trainings.resume, row, caller)
    return await to_thread.run_sync(state_of, left, service.trainings.store)


@router.get(
    "/trainings/{id}/events",
    summary="Listen to a training",
    dependencies=[requires("viewer")],
    response_class=EventSourceResponse,
    responses=documented_stream(EVENTS),
)
async def follow_training(
    row: TrainingDependency, service: ServiceDependency, after: Annotated[int, Depends(_after)]
) -> AsyncIterator[ServerSentEvent]:
    """Server-Sent Events: `queued`, `preparing`, `estimate`, `running`, `step` (one a second),
    `validation`, `sample`, `evaluating`; at last one of `succeeded`, `failed` and `cancelled`.

    `died` says that the process ended by itself, before it is started again. A client that comes
    back with `Last-Event-ID` gets what it missed.
    """
    async for line in service.trainings.follow(row.id, after):
        if (told := event_of(row.id, line, service.trainings.store)) is not None:
            yield ServerSentEvent(id=str(line.id), event=line.event, data=told)


@router.get(
    "/trainings/{id}/samples",
    summary="Which samples did a training draw?",
    dependencies=[requires("viewer")],
    responses=documented(404, 422),
)
async def list_samples(row: TrainingDependency, service: ServiceDependency) -> SampleList:
    """Grids of fixed seeds: the base's at step 0, then every so many steps."""
    store = service.trainings.store
    return SampleList(samples=await to_thread.run_sync(samples_of, row.id, store))


@router.get(
    "/trainings/{id}/samples/{step}",
    summary="See a sample",
    dependencies=[requires("viewer")],
    response_class=FileResponse,
    responses={
        200: {"description": "The grid.", "content": {"image/png": BINARY}},
        **documented(404, 422),
    },
)
def get_sample(
    row: TrainingDependency,
    step: Annotated[int, Path(ge=0, le=10**6, description="Of `samples`.", examples=[100])],
    service: ServiceDependency,
) -> FileResponse:
    """A row of pictures for each thing that it learns, and one for the class."""
    path = service.trainings.store.folder(row.id) / "samples" / f"step-{step:06d}.png"
    if not path.is_file():
        raise HTTPException(404, f"the training {row.id} has no sample of step {step}")
    return FileResponse(path, media_type="image/png")


def _base(service: Service, asked: str | None) -> str:
    """The model to start from. Raises ModelNotFound or InvalidRequest."""
    catalog = service.catalog
    if asked:
        entry = catalog.get(asked)
        if entry.manifest.kind == "adapter":
            raise InvalidRequest(f"base {asked!r}: is itself an adapter; train on a whole model")
        return entry.manifest.name
    entry = catalog.get(catalog.default_model(service.settings.default_model))
    if entry.manifest.kind == "adapter" and entry.manifest.base is not None:
        return catalog.get(entry.manifest.base).manifest.name
    return entry.manifest.name


def _lesson(
    home: FolderPath, word: str | None, breeds: list[str] | None, dataset: str | None, photos: int
) -> tuple[str, list[str]]:
    """The class, and the English names of the breeds to learn: none where there are photos.

    Raises InvalidRequest.
    """
    if not breeds:
        if dataset is not None:
            raise InvalidRequest(f"dataset {dataset!r}: goes with breeds, not with photos")
        if photos < MIN_PHOTOS:
            raise InvalidRequest(f"photos: {photos} were sent; at least {MIN_PHOTOS}, or breeds")
        return word or "dog", []
    if photos:
        raise InvalidRequest("breeds: go without photos; a training learns either")
    if dataset is None:
        raise InvalidRequest("dataset: needed with breeds")
    prepared = prepared_dataset(home, dataset)
    if word not in (None, prepared.class_word):
        raise InvalidRequest(
            f"class {word!r}: the dataset {dataset!r} shows {prepared.class_word!r}"
        )
    return prepared.class_word, prepared.named(breeds)

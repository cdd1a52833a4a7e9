"""Tells how a generation stands, as a state or as a stream of events, and cancels it."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Path, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.errors import documented, documented_beside_stream
from api.generation import Generation
from api.schemas.generations import GenerationState
from api.service import ServiceDependency

router = APIRouter(tags=["generations"])

EVENTS = """\
event: queued
data: {"position":0}
id: 0

event: started
data: {}
id: 1

event: step
data: {"step":1,"steps":25}
id: 2

event: preview
data: {"index":0,"step":1,"image":"data:image/jpeg;base64,/9j/4AAQSkZJRg"}
id: 3

event: finished
data: {"id":"0f8fad5bd9cb469fa16570867728950e","model":"dogbooth-breeds","images":[]}
id: 4
"""


async def _find(
    generation_id: Annotated[
        str,
        Path(
            alias="id",
            description="From the Location header or the body of a 202 answer.",
            examples=["0f8fad5bd9cb469fa16570867728950e"],
        ),
    ],
    service: ServiceDependency,
) -> Generation:
    generation = service.generations.find(generation_id)
    if generation is None:
        raise HTTPException(404, f"no generation has the id {generation_id[:80]!r}")
    return generation


GenerationDependency = Annotated[Generation, Depends(_find)]


async def _last_event_id(
    generation: GenerationDependency,
    response: Response,
    last_event_id: Annotated[
        int | None,
        Header(
            alias="Last-Event-ID",
            ge=0,
            description="The last event that was read; browsers send it when they come back.",
            examples=[12],
        ),
    ] = None,
) -> int:
    """The id to go on after; answers 204, which ends a browser's retries, to who has them all."""
    after = -1 if last_event_id is None else last_event_id
    if generation.ended and after >= generation.events[-1].id:
        response.status_code = 204
    return after


@router.get(
    "/generations/{id}", summary="How does a generation stand?", responses=documented(404, 422)
)
async def get_generation(
    generation: GenerationDependency, service: ServiceDependency
) -> GenerationState:
    """Its state and, once finished, the same answer that `POST /generate` gives.

    Known are the ones that run and the last ones that ended, as far as they were started in the
    background or with an Idempotency-Key. All is in memory: a restart forgets it.
    """
    return generation.state(service.generations.ahead(generation))


@router.delete(
    "/generations/{id}",
    summary="Cancel a generation",
    status_code=204,
    responses=documented(404, 422),
)
async def cancel_generation(generation: GenerationDependency, service: ServiceDependency) -> None:
    """Stops it between two denoising steps; 204 also when it has ended already.

    Whoever still waits for it at `POST /generate` is answered 409.
    """
    service.generations.cancel(generation)


@router.get(
    "/generations/{id}/events",
    summary="Listen to a generation",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Server-Sent Events up to the final one.",
            "content": {"text/event-stream": {"example": EVENTS}},
        },
        204: {"description": "It has ended, and Last-Event-ID names its final event."},
        **documented_beside_stream(404, 422),
    },
)
async def listen(
    generation: GenerationDependency, after: Annotated[int, Depends(_last_event_id)]
) -> AsyncIterator[ServerSentEvent]:
    """Server-Sent Events: `queued`, `started`, `step`, `preview`; at last one of `finished`
    (with what `POST /generate` answers), `failed` and `cancelled`.

    A client that comes back with `Last-Event-ID` gets what it missed; of the previews, the newest
    of each picture, and none once the generation has ended.
    """
    async for event in generation.follow(after):
        yield ServerSentEvent(id=str(event.id), event=event.name, data=event.data)

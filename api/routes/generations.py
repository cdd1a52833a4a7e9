"""Tells how generations stand, as a state, as a stream of events, or page by page; cancels them."""

from collections.abc import AsyncIterator
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, HTTPException, Path, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.access import Artist, check_owner, requires
from api.errors import documented
from api.generation import Generation
from api.paging import PageCursor, PageLimit
from api.schemas.generate import NO_NUL
from api.schemas.generations import GenerationPage, GenerationState, State
from api.service import ServiceDependency
from api.streams import LastEventId, documented_stream, resume_after

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
    generation = await service.generations.find(generation_id)
    if generation is None:
        raise HTTPException(404, f"no generation has the id {generation_id[:80]!r}")
    return generation


GenerationDependency = Annotated[Generation, Depends(_find)]


async def _last_event_id(
    generation: GenerationDependency, response: Response, last_event_id: LastEventId = None
) -> int:
    final = generation.events[-1].id if generation.ended else None
    return resume_after(last_event_id, final, response)


@router.get(
    "/generations",
    summary="Which generations were there?",
    dependencies=[requires("viewer")],
    responses=documented(422),
)
async def list_generations(
    service: ServiceDependency,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
    model: Annotated[
        str | None,
        Query(
            description="Those of one model only.",
            max_length=64,
            pattern=NO_NUL,
            examples=["dogbooth-breeds"],
        ),
    ] = None,
    state: Annotated[
        State | None, Query(description="Those in one state only.", examples=["finished"])
    ] = None,
) -> GenerationPage:
    """The newest first; what comes in while one reads changes no later page."""
    page = await to_thread.run_sync(service.history.page, limit, cursor, model, state)
    found = [service.generations.known(row) for row in page.rows]
    return GenerationPage(
        generations=[each.state(service.generations.ahead(each)) for each in found],
        next=page.cursor,
    )


@router.get(
    "/generations/{id}",
    summary="How does a generation stand?",
    dependencies=[requires("viewer")],
    responses=documented(404, 422),
)
async def get_generation(
    generation: GenerationDependency, service: ServiceDependency
) -> GenerationState:
    """Its state and, once finished, the same answer that `POST /generate` gives.

    What ran when the service was ended or killed has failed with the code `interrupted`.
    """
    return generation.state(service.generations.ahead(generation))


@router.delete(
    "/generations/{id}",
    summary="Cancel or remove a generation",
    status_code=204,
    responses=documented(404, 422),
)
async def delete_generation(
    caller: Artist, generation: GenerationDependency, service: ServiceDependency
) -> None:
    """Stops one that has not ended between two denoising steps; its record stays, as `cancelled`.

    Whoever still waits for it at `POST /generate` is answered 409. One that has ended is removed,
    with its pictures as far as no other generation made the same. For the one who started it, or
    an admin.
    """
    check_owner(caller, generation.client, "generation")
    if not generation.ended:
        service.generations.cancel(generation)
        return
    await to_thread.run_sync(service.retention.remove_generation, generation.id)
    service.generations.forget(generation.id)


@router.get(
    "/generations/{id}/events",
    summary="Listen to a generation",
    dependencies=[requires("viewer")],
    response_class=EventSourceResponse,
    responses=documented_stream(EVENTS),
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

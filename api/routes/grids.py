"""Draws grids of pictures over one or two settings, in the background."""

import secrets
from collections.abc import AsyncIterator
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Body, Depends, HTTPException, Path, Request, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.access import Artist, check_owner, requires
from api.errors import documented, link
from api.grids import Grid
from api.keys import Caller
from api.orders import Order, make_body, make_order
from api.schemas.grids import GridAxis, GridRequest, GridState
from api.service import Service, ServiceDependency
from api.streams import LastEventId, documented_stream, resume_after
from models.admission import MAX_SEED
from models.grids import Axis, Value, check_axes

router = APIRouter(tags=["grids"])

EXAMPLES = {
    "steps": {
        "summary": "Steps by scheduler",
        "value": {
            "prompt": "a photo of a beagle",
            "seed": 7,
            "x": {"name": "steps", "values": [2, 5]},
            "y": {"name": "scheduler", "values": ["ddim", "euler"]},
        },
    }
}
EVENTS = """\
event: queued
data: {}
id: 0

event: cell
data: {"index":0,"generation":"0f8fad5bd9cb469fa16570867728950e","finished":1,"cells":2}
id: 1

event: finished
data: {"id":"5d41402abc4b2a76b9719d911017c592","url":"/images/5d41402abc4b2a76b9719d911017c592"}
id: 3
"""


async def _find(
    grid_id: Annotated[
        str,
        Path(
            alias="id",
            description="From the Location header or the body of a 202 answer.",
            examples=["7b1d3c4f6a2e4d0b9c8a5e6f70112233"],
        ),
    ],
    service: ServiceDependency,
) -> Grid:
    grid = service.grids.find(grid_id)
    if grid is None:
        raise HTTPException(404, f"no grid has the id {grid_id[:80]!r}")
    return grid


GridDependency = Annotated[Grid, Depends(_find)]


async def _after(
    grid: GridDependency, response: Response, last_event_id: LastEventId = None
) -> int:
    final = grid.events[-1].id if grid.ended else None
    return resume_after(last_event_id, final, response)


@router.post(
    "/grids",
    summary="Draw a grid",
    status_code=202,
    response_model=GridState,
    responses={
        202: {
            "description": "Taken in; its state, and where to ask for it.",
            "headers": {
                "Location": {
                    "description": "The grid's own path, `/grids/{id}`.",
                    "schema": {"type": "string"},
                }
            },
            "links": {
                **link("get_grid", "id", "id"),
                **link("listen_to_grid", "id", "id"),
                **link("delete_grid", "id", "id"),
            },
        },
        **documented(400, 404, 413, 422, 429, 500, 503),
    },
)
async def start_grid(
    body: Annotated[GridRequest, Body(openapi_examples=EXAMPLES)],
    request: Request,
    caller: Artist,
    service: ServiceDependency,
) -> Response:
    """One picture for each pair of values, joined with labels as the WebUI's XYZ plot does it.

    Every cell is a generation of its own and may be asked for as such; all have the same seed
    unless an axis says otherwise. The grid is forgotten when the service ends, its pictures stay.
    """
    x, y = _axis(body.x), _axis(body.y) if body.y else None
    check_axes(x, y)
    orders = await to_thread.run_sync(
        _orders, body, x, y, caller, request.state.request_id, service
    )
    grid = await service.grids.start(orders, x, y)
    headers = {"Location": f"/grids/{grid.id}"}
    return JSONResponse(grid.state().model_dump(mode="json"), 202, headers)


@router.get(
    "/grids/{id}",
    summary="How does a grid stand?",
    dependencies=[requires("viewer")],
    responses=documented(404, 422),
)
async def get_grid(grid: GridDependency) -> GridState:
    """Its state and, once finished, where its picture is."""
    return grid.state()


@router.get(
    "/grids/{id}/events",
    summary="Listen to a grid",
    dependencies=[requires("viewer")],
    response_class=EventSourceResponse,
    responses=documented_stream(EVENTS),
)
async def listen_to_grid(
    grid: GridDependency, after: Annotated[int, Depends(_after)]
) -> AsyncIterator[ServerSentEvent]:
    """Server-Sent Events: `queued`, a `cell` for each that is drawn; at last one of `finished`,
    `failed` and `cancelled`. A client that comes back with `Last-Event-ID` gets what it missed.
    """
    async for event in grid.follow(after):
        yield ServerSentEvent(id=str(event.id), event=event.name, data=event.data)


@router.delete(
    "/grids/{id}",
    summary="Cancel or forget a grid",
    status_code=204,
    responses=documented(404, 422),
)
async def delete_grid(caller: Artist, grid: GridDependency, service: ServiceDependency) -> None:
    """Stops one that has not ended; forgets one that has. The cells that are drawn stay, as
    generations. For the one who started it, or an admin.
    """
    check_owner(caller, grid.client, "grid")
    if grid.ended:
        service.grids.forget(grid.id)
    else:
        service.grids.cancel(grid)


def _axis(body: GridAxis) -> Axis:
    values: tuple[Value, ...] = tuple(body.values)
    return Axis(body.name, values)


def _orders(
    body: GridRequest, x: Axis, y: Axis | None, caller: Caller, request_id: str, service: Service
) -> list[Order]:
    """The order of each cell, row by row, found good before any of them begins."""
    common = body.model_dump(exclude={"x", "y"}, exclude_unset=True)
    common.setdefault("seed", secrets.randbelow(MAX_SEED + 1))
    rows = [{}] if y is None else [{y.name: value} for value in y.values]
    bodies = [make_body(**common | row | {x.name: value}) for row in rows for value in x.values]
    return [
        make_order(each, "png", caller, request_id, service.settings, service.catalog)
        for each in bodies
    ]

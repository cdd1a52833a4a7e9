"""What the routes of event streams share: how they are documented, and where a client goes on."""

from typing import Annotated, Any

from fastapi import Header, Response
from pydantic import WithJsonSchema

from api.errors import MEANINGS

LAST_EVENT_ID: dict[str, Any] = {
    "type": "integer",  # a header is never null
    "minimum": 0,
    "description": "The last event that was read; browsers send it when they come back.",
    "examples": [12],
}

LastEventId = Annotated[
    int | None,
    WithJsonSchema(LAST_EVENT_ID),
    Header(alias="Last-Event-ID", ge=0, description=LAST_EVENT_ID["description"]),
]


def resume_after(last_event_id: int | None, final: int | None, response: Response) -> int:
    """The id to go on after; answers 204, which ends a browser's retries, to who has them all.

    `final` is the id of the last event there will be, None while more may come.
    """
    after = -1 if last_event_id is None else last_event_id
    if final is not None and after >= final:
        response.status_code = 204
    return after


def documented_stream(example: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a stream's route.

    Errors are written out: of a model FastAPI would give them the stream's media type.
    """
    responses: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "Server-Sent Events up to the final one.",
            "content": {"text/event-stream": {"example": example}},
        },
        204: {"description": "It has ended, and Last-Event-ID names its final event."},
    }
    schema = {"$ref": "#/components/schemas/ErrorAnswer"}
    for status in (401, 403, 404, 422, 429):
        responses[status] = {
            "description": MEANINGS[status],
            "content": {"application/json": {"schema": schema}},
        }
    return responses

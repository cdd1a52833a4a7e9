"""Renders every error as one documented shape: a code, a message, the request's id."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from api.schemas.service import ErrorAnswer, ErrorBody
from models.errors import InvalidRequest, ModelsError, QueueFull

logger = logging.getLogger(__name__)

STATUS_BY_CODE = {
    "model_not_found": 404,
    "model_exists": 409,
    "invalid_request": 422,
    "idempotency_key_reused": 422,
    "queue_full": 429,
    "invalid_model": 500,
    "generation_failed": 500,
    "engine_failed": 500,
    "not_finite": 500,
    "internal": 500,
    "out_of_memory": 503,
    "engine_closed": 503,
    "timeout": 504,
    "generation_cancelled": 409,
}
CODE_BY_STATUS = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "content_too_large",
    503: "not_ready",
}
RETRY_AFTER = "5"
"""Seconds after which a 503 may have passed."""
MEANINGS = {
    404: "Nothing has this name or id; for a model, the message lists those that exist.",
    406: "The Accept header asks for what this request cannot be answered with.",
    409: "Another client cancelled the generation.",
    413: "The body is larger than any good request.",
    422: "A field is unknown, out of its bounds or does not suit the model; or the "
    "Idempotency-Key was sent before with another request (`idempotency_key_reused`).",
    429: "The queue is full; Retry-After says in how many seconds to try again.",
    500: "The service failed; the request id finds the reason in its log.",
    503: "The service is starting, ending or out of memory.",
    504: "The pictures were not made in time.",
}


class IdempotencyKeyReused(ModelsError):
    """The same client sent the same Idempotency-Key with another request."""

    code = "idempotency_key_reused"


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may end in these statuses."""
    return {status: {"model": ErrorAnswer, "description": MEANINGS[status]} for status in statuses}


def documented_beside_stream(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """As `documented`, for a stream's route: FastAPI would give errors the stream's media type."""
    schema = {"$ref": "#/components/schemas/ErrorAnswer"}
    return {
        status: {
            "description": MEANINGS[status],
            "content": {"application/json": {"schema": schema}},
        }
        for status in statuses
    }


def add_error_handlers(app: FastAPI) -> None:
    """Route every exception through this module."""
    app.add_exception_handler(ModelsError, _models_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected_error)


async def _models_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ModelsError)
    status = STATUS_BY_CODE.get(error.code, 500)
    headers = {"Retry-After": RETRY_AFTER} if status == 503 else {}
    if isinstance(error, QueueFull):
        headers = {"Retry-After": str(error.retry_after)}
    return _answer(request, status, error.code, str(error), headers)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    message = "; ".join(map(_describe, error.errors()))
    return _answer(request, 422, InvalidRequest.code, message)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = CODE_BY_STATUS.get(error.status_code, HTTPStatus(error.status_code).name.lower())
    headers = dict(error.headers or {})
    return _answer(request, error.status_code, code, str(error.detail), headers)


async def _unexpected_error(request: Request, error: Exception) -> JSONResponse:
    """The traceback goes to the server's log (Starlette raises `error` again), never out."""
    logger.error("request %s failed: %r", request.state.request_id, error)
    return _answer(request, 500, "internal", "the service failed; see its log for this request id")


def _describe(detail: dict[str, Any]) -> str:
    """One validation error: the field, the value that was sent, what it should be."""
    location: Sequence[str | int] = detail["loc"]
    field = ".".join(map(str, location[1:])) or str(location[0])
    if detail["type"] in ("missing", "json_invalid"):
        return f"{field}: {detail['msg']}"
    value = detail["input"]
    shown = value[:80] if isinstance(value, str) else value  # a picture may have megabytes
    return f"{field} {shown!r:.80}: {detail['msg']}"


def _answer(
    request: Request, status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    request_id: str = request.state.request_id
    body = ErrorAnswer(error=ErrorBody(code=code, message=message, request_id=request_id))
    return JSONResponse(body.model_dump(), status, {"X-Request-ID": request_id, **(headers or {})})

"""Renders every error as a code, a message and the request's id, in the words of the path's API."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.limits import LimitReached
from api.schemas.openai import OpenAIError, OpenAIErrorAnswer
from api.schemas.service import ErrorAnswer, ErrorBody, PhotoProblem
from api.schemas.webui import WebUiError
from api.trainings.photos import PhotosRefused
from models.errors import InvalidRequest, ModelsError, QueueFull

logger = logging.getLogger(__name__)

STATUS_BY_CODE = {
    "model_not_found": 404,
    "model_exists": 409,
    "model_in_use": 409,
    "model_read_only": 403,
    "model_refused": 422,
    "invalid_request": 422,
    "photos_refused": 422,
    "training_not_ended": 409,
    "training_succeeded": 409,
    "idempotency_key_reused": 422,
    "not_authenticated": 401,
    "forbidden": 403,
    "rate_limited": 429,
    "queue_full": 429,
    "invalid_model": 500,
    "generation_failed": 500,
    "engine_failed": 500,
    "not_finite": 500,
    "internal": 500,
    "out_of_memory": 503,
    "engine_closed": 503,
    "interrupted": 503,
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
OPENAI_PATHS, WEBUI_PATHS = "/v1/", "/sdapi/"
"""Where errors have the shape that the clients of those APIs read."""
MEANINGS = {
    400: "The body cannot be read; under `/v1/`, also what is 422 elsewhere.",
    401: "A key is needed, or the one that came is not valid.",
    403: "The key's role does not include this, it is another client's, or the model ships with "
    "dogbooth and stays as it is (`model_read_only`).",
    404: "Nothing has this name or id; for a model, the message lists those that exist.",
    406: "The Accept header asks for what this request cannot be answered with.",
    409: "Another client cancelled the generation (`generation_cancelled`); the model's name is "
    "taken (`model_exists`); generations or other models need the model (`model_in_use`); or the "
    "training has not ended (`training_not_ended`) or has succeeded (`training_succeeded`).",
    413: "The body is larger than any good request.",
    422: "A field is unknown, out of its bounds or does not suit the model; the uploaded file is "
    "no model that can be taken, the message says why (`model_refused`); photos cannot be "
    "trained on, `photos` says why for each (`photos_refused`); or the "
    "Idempotency-Key was sent before with another request (`idempotency_key_reused`).",
    429: "The queue is full, or the client has used up what it may ask for; Retry-After says in "
    "how many seconds to try again.",
    500: "The service failed; the request id finds the reason in its log.",
    503: "The service is starting, ending or out of memory.",
    504: "The pictures were not made in time.",
}


class IdempotencyKeyReused(ModelsError):
    """The same client sent the same Idempotency-Key with another request."""

    code = "idempotency_key_reused"


def documented(
    *statuses: int, shape: type[BaseModel] = ErrorAnswer
) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may end in these statuses."""
    return {status: {"model": shape, "description": MEANINGS[status]} for status in statuses}


def link(operation_id: str, parameter: str, place: str) -> dict[str, dict[str, Any]]:
    """An OpenAPI link: the answer's value at `place` is the `parameter` of another operation.

    Docs show it; the Postman collection and the fuzzing tests follow it.
    """
    expression = f"$response.body#/{place}"
    return {operation_id: {"operationId": operation_id, "parameters": {parameter: expression}}}


def add_error_handlers(app: FastAPI) -> None:
    """Route every exception through this module."""
    app.add_exception_handler(ModelsError, _models_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OperationalError, _database_error)
    app.add_exception_handler(Exception, _unexpected_error)


async def _models_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ModelsError)
    status = STATUS_BY_CODE.get(error.code, 500)
    headers = {"Retry-After": RETRY_AFTER} if status == 503 else {}
    if isinstance(error, QueueFull | LimitReached):
        headers = {"Retry-After": str(error.retry_after)}
    if status == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    faults = error.faults if isinstance(error, PhotosRefused) else None
    photos = faults and [PhotoProblem(**vars(fault)) for fault in faults]
    return _answer(request, status, error.code, str(error), headers, photos=photos or None)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    details = error.errors()
    message = "; ".join(map(describe, details))
    return _answer(request, 422, InvalidRequest.code, message, field=_field(details[0]))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = CODE_BY_STATUS.get(error.status_code, HTTPStatus(error.status_code).name.lower())
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return _answer(request, error.status_code, code, str(error.detail), headers)


async def _database_error(request: Request, error: Exception) -> JSONResponse:
    """PostgreSQL is away, or SQLite's disk is full: it may pass."""
    logger.error("request %s: the database: %s", request.state.request_id, error)
    headers = {"Retry-After": RETRY_AFTER}
    return _answer(request, 503, "database_unavailable", "the database does not answer", headers)


def _allowed_methods(request: Request) -> list[str]:
    """Of all routes of the path (RFC 9110, 15.5.6); Starlette knows those of the first one only."""
    return [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


async def _unexpected_error(request: Request, error: Exception) -> JSONResponse:
    """The traceback goes to the server's log (Starlette raises `error` again), never out."""
    logger.error("request %s failed: %r", request.state.request_id, error)
    return _answer(request, 500, "internal", "the service failed; see its log for this request id")


def describe(detail: Mapping[str, Any]) -> str:
    """One validation error: the field, the value that was sent, what it should be."""
    field = _field(detail)
    if detail["type"] in ("missing", "json_invalid"):
        return f"{field}: {detail['msg']}"
    value = detail["input"]
    shown = value[:80] if isinstance(value, str) else value  # a picture may have megabytes
    return f"{field} {shown!r:.80}: {detail['msg']}"


def _field(detail: Mapping[str, Any]) -> str:
    location: Sequence[str | int] = detail["loc"]
    return ".".join(map(str, location[1:])) or str(location[0])


def _answer(
    request: Request,
    status: int,
    code: str,
    message: str,
    headers: dict[str, str] | None = None,
    field: str | None = None,
    photos: list[PhotoProblem] | None = None,
) -> JSONResponse:
    request_id: str = request.state.request_id
    body: BaseModel
    if request.url.path.startswith(OPENAI_PATHS):
        status = 400 if status == 422 else status
        body = OpenAIErrorAnswer(error=openai_error(status, code, message, field))
    elif request.url.path.startswith(WEBUI_PATHS):
        body = WebUiError(error=code, detail=message, errors=message)
    else:
        told = ErrorBody(code=code, message=message, request_id=request_id, photos=photos)
        body = ErrorAnswer(error=told)
    shown = body.model_dump(exclude={"error": {"photos"}} if photos is None else None)
    return JSONResponse(shown, status, {"X-Request-ID": request_id, **(headers or {})})


def openai_error(status: int, code: str, message: str, field: str | None = None) -> OpenAIError:
    """An error in OpenAI's words; `field` is the one that was refused."""
    kind = "rate_limit_error" if status == 429 else "invalid_request_error"
    return OpenAIError(
        message=message, type="server_error" if status >= 500 else kind, param=field, code=code
    )

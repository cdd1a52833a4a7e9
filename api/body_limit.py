"""Refuses bodies that are larger than any good request, before they fill the memory."""

from anyio import to_thread
from fastapi import HTTPException, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import NotAuthenticated, identify
from api.schemas.generate import MAX_DATA_URL_LENGTH
from api.service import Service

FORM_BYTES = 100_000
"""What stands around a picture or a file."""
MAX_BODY_BYTES = MAX_DATA_URL_LENGTH + FORM_BYTES


class BodyLimitMiddleware:
    """Raises 413 where a route reads too large a body; FastAPI's own limit answers plain text."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        announced = int(length) if length.isdecimal() else 0
        received = 0
        limit = await _limit(scope)

        async def limited_receive() -> Message:
            nonlocal received
            _check(announced, limit)
            message = await receive()
            received += len(message.get("body", b""))
            _check(received, limit)
            return message

        await self.app(scope, limited_receive, send)


async def _limit(scope: Scope) -> int:
    """Bytes that this request's body may have.

    FastAPI stores a form before it asks for the role: who may not import sends no model either.
    """
    if scope["method"] == "POST" and scope["path"] in ("/models", "/trainings"):
        service: Service = scope["state"]["service"]
        try:
            caller = await to_thread.run_sync(
                identify, Request(scope), service, limiter=service.identifying
            )
        except NotAuthenticated:
            return MAX_BODY_BYTES
        if caller.may("trainer"):
            settings = service.settings
            most = settings.max_upload if scope["path"] == "/models" else settings.max_photos
            return most + FORM_BYTES
    return MAX_BODY_BYTES


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise HTTPException(413, f"body of {size} bytes: at most {limit}")

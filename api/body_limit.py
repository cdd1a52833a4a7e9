"""Refuses bodies that are larger than any good request, before they fill the memory."""

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.schemas.generate import MAX_DATA_URL_LENGTH

MAX_BODY_BYTES = MAX_DATA_URL_LENGTH + 100_000


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

        async def limited_receive() -> Message:
            nonlocal received
            _check(announced)
            message = await receive()
            received += len(message.get("body", b""))
            _check(received)
            return message

        await self.app(scope, limited_receive, send)


def _check(size: int) -> None:
    if size > MAX_BODY_BYTES:
        raise HTTPException(413, f"body of {size} bytes: at most {MAX_BODY_BYTES}")

"""Lets web pages of the origins in DOGBOOTH_CORS_ORIGINS ask; without any, no page of another."""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from api.service import Service

EXPOSED = ("Location", "Retry-After", "X-Request-ID", "X-Image-Id", "X-Seed")


class CorsMiddleware:
    """Starlette's, as soon as the service has read its settings."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._inner: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._inner is None:
            service: Service = scope["state"]["service"]
            origins = service.settings.cors_origins
            self._inner = self.app
            if origins:
                self._inner = CORSMiddleware(
                    self.app,
                    allow_origins=origins,
                    allow_methods=["*"],
                    allow_headers=["*"],
                    expose_headers=EXPOSED,
                )
        await (self._inner or self.app)(scope, receive, send)

"""Serves the page: `/`, and the files that it is made of under `/page`."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response
from starlette.types import Scope

FOLDER = Path(__file__).parent.parent / "page"
HEADERS = {
    # Only our own files, no script or style inside the page; pictures come by fetch, as blobs.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked again with its ETag: a new version is seen at once
}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def get_page() -> FileResponse:
    """The page; what it asks of the API needs a key where the service asks for keys."""
    return FileResponse(FOLDER / "index.html", headers=HEADERS)


class PageFiles(StaticFiles):
    """The page's scripts, styles and icon, with its headers."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """As StaticFiles answers, under the page's headers."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response

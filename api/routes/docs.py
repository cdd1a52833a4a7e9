"""Serves Swagger UI at `/docs`, its scripts from an installed package: no other site is asked."""

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

POLICY = (
    # Swagger UI is started by a script inside the page, and styles its parts in place.
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def get_docs() -> HTMLResponse:
    """The API to read and to try. Its addresses are relative: it works below any path."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="dogbooth: the API",
        swagger_js_url="docs/assets/swagger-ui-bundle.js",
        swagger_css_url="docs/assets/swagger-ui.css",
        swagger_favicon_url="page/icon.svg",
    )
    page.headers["Content-Security-Policy"] = POLICY
    return page


def swagger_files() -> StaticFiles:
    """Swagger UI as the package fastapi-offline has it; not its FastAPI, which has other routes."""
    return StaticFiles(packages=[("fastapi_offline", "static")])

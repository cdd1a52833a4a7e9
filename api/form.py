"""Lets the routes that take a request as JSON take it as a form too, with a picture as a file."""

import base64
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.datastructures import MutableHeaders, UploadFile
from starlette.types import Message

from api.init_image import UNCHECKED_HEAD
from api.schemas.generate import MAX_DATA_URL_LENGTH, MAX_IMAGE_BYTES, GenerateForm
from models.errors import InvalidRequest

MEDIA_TYPE = "multipart/form-data"
FORM_CONTENT = {
    "requestBody": {"content": {MEDIA_TYPE: {"schema": GenerateForm.model_json_schema()}}}
}
"""What the OpenAPI schema says of it, as a route's `openapi_extra`."""


class JsonOrFormRoute(APIRoute):
    """Reads a form as the JSON that says the same, so that all else is the same too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_either(request: Request) -> Response:
            media = request.headers.get("content-type", "").partition(";")[0]
            if media.strip().lower() == MEDIA_TYPE:
                return await handle(await _as_json(request))
            return await handle(request)

        return handle_either


async def _as_json(request: Request) -> Request:
    """The request with its form turned into JSON; raises InvalidRequest or what FastAPI raises.

    Fields that are left empty count as left out, as browsers send them.
    """
    fields: dict[str, str] = {}
    async with request.form(max_part_size=MAX_DATA_URL_LENGTH) as form:
        for name, value in form.multi_items():
            if name in fields:
                raise InvalidRequest(f"{name}: is sent more than once")
            if isinstance(value, UploadFile):
                if not value.filename and not value.size:
                    continue
                value = await _data_url(name, value)
            if value:
                fields[name] = value
    try:
        body = GenerateForm.model_validate(fields).model_dump_json(exclude_unset=True).encode()
    except ValidationError as error:
        details = [{**detail, "loc": ("body", *detail["loc"])} for detail in error.errors()]
        raise RequestValidationError(details, body=fields) from error
    headers = MutableHeaders(raw=list(request.scope["headers"]))
    headers["content-type"] = "application/json"
    headers["content-length"] = str(len(body))
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return unread.pop() if unread else await request.receive()

    return Request({**request.scope, "headers": headers.raw}, receive)


async def _data_url(name: str, upload: UploadFile) -> str:
    """The file as `init_image` has it; its bytes are looked at where a data URL's are."""
    if name != "init_image":
        raise InvalidRequest(f"{name}: is a file, which only init_image may be")
    if upload.size is not None and upload.size > MAX_IMAGE_BYTES:
        raise InvalidRequest(f"{name} has {upload.size} bytes: at most {MAX_IMAGE_BYTES}")
    return f"{UNCHECKED_HEAD}{base64.b64encode(await upload.read()).decode()}"

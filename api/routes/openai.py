"""OpenAI's Images API, for the clients that speak it."""

import base64
import io
import math
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Body, Form, HTTPException, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.sse import format_sse_event
from PIL import Image
from pydantic import BaseModel

from api.access import Artist, requires
from api.errors import STATUS_BY_CODE, documented, link, openai_error
from api.generation import Generation
from api.init_image import UNCHECKED_HEAD
from api.keys import Caller
from api.orders import make_body
from api.routes.generate import place_order, wait_for_answer
from api.schemas.generate import GenerateAnswer, GenerateRequest
from api.schemas.generations import PreviewData
from api.schemas.openai import (
    CompletedImage,
    ImageEdit,
    ImageGeneration,
    ImagesAnswer,
    OpenAIErrorAnswer,
    OpenAIImage,
    OpenAIModel,
    OpenAIModelList,
    PartialImage,
)
from api.schemas.service import Failure
from api.service import Service, ServiceDependency
from models.admission import largest_upscale
from models.catalog import Catalog, CatalogEntry
from models.picture import PictureFormat

router = APIRouter(prefix="/v1", tags=["OpenAI"])

EXAMPLES = {
    "file": {"summary": "The file itself", "value": {"prompt": "a photo of a pug dog"}},
    "link": {
        "summary": "Two links, with Stable Diffusion's settings",
        "value": {
            "prompt": "un perro beagle",
            "n": 2,
            "response_format": "url",
            "output_format": "webp",
            "negative_prompt": "blurry",
            "steps": 20,
            "guidance_scale": 5.0,
            "scheduler": "dpmpp_2m",
            "seed": 42,
        },
    },
    "stream": {
        "summary": "Streamed",
        "value": {"prompt": "a photo of a pug dog", "stream": True, "partial_images": 2},
    },
}
EVENTS = """\
event: image_generation.partial_image
data: {"type":"image_generation.partial_image","b64_json":"iVBORw0KGgo=","partial_image_index":0}

event: image_generation.completed
data: {"type":"image_generation.completed","b64_json":"iVBORw0KGgo="}
"""


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return documented(*statuses, shape=OpenAIErrorAnswer)


PICTURES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The pictures; for `stream`, Server-Sent Events.",
        "content": {"text/event-stream": {"example": EVENTS}},
    },
    **_errors(400, 404, 409, 413, 429, 500, 503, 504),
}


@router.post(
    "/images/generations",
    summary="Make pictures (OpenAI)",
    response_model=ImagesAnswer,
    responses=PICTURES,
)
async def generate_images(
    body: Annotated[ImageGeneration, Body(openapi_examples=EXAMPLES)],
    request: Request,
    caller: Artist,
    service: ServiceDependency,
) -> ImagesAnswer | Response:
    """OpenAI's `images.generate`; Stable Diffusion's settings are top-level fields beside its own.

    With `stream`: `image_generation.partial_image` events, rough and scaled up, then an
    `image_generation.completed` for each picture, or one `error`.
    """
    return await _draw(body, {}, "image_generation", request, caller, service)


@router.post(
    "/images/edits",
    summary="Draw a picture anew (OpenAI)",
    response_model=ImagesAnswer,
    responses=PICTURES,
)
async def edit_image(
    body: Annotated[ImageEdit, Form(media_type="multipart/form-data")],
    request: Request,
    caller: Artist,
    service: ServiceDependency,
) -> ImagesAnswer | Response:
    """OpenAI's `images.edit`: starts from one picture, `image` or `image[]`.

    `strength` says how much is drawn anew. A `mask` is refused: the whole picture is redrawn. With
    `stream` the events are `image_edit.partial_image` and `image_edit.completed`.
    """
    if "mask" in await request.form():
        raise HTTPException(400, "mask: is not supported, the whole picture is drawn anew")
    uploads = [upload for upload in (body.image, *body.images) if upload is not None]
    if len(uploads) != 1:
        raise HTTPException(400, f"image: one picture is needed, not {len(uploads)}")
    payload = base64.b64encode(await uploads[0].read()).decode()
    fields = {"init_image": f"{UNCHECKED_HEAD}{payload}", "strength": body.strength}
    return await _draw(body, fields, "image_edit", request, caller, service)


@router.get(
    "/models",
    summary="Which models are there? (OpenAI)",
    dependencies=[requires("viewer")],
    responses={200: {"links": link("get_openai_model", "model", "data/0/id")}},
)
def list_openai_models(service: ServiceDependency) -> OpenAIModelList:
    """Every whole model of the catalog."""
    return OpenAIModelList(data=[_model(entry) for entry in service.catalog.entries()])


@router.get(
    "/models/{model}",
    summary="What is this model? (OpenAI)",
    dependencies=[requires("viewer")],
    responses=_errors(404, 500),
)
def get_openai_model(model: str, service: ServiceDependency) -> OpenAIModel:
    """One model."""
    return _model(service.catalog.get(model))


def _model(entry: CatalogEntry) -> OpenAIModel:
    return OpenAIModel(id=entry.manifest.name, created=int(entry.manifest.created.timestamp()))


async def _draw(
    asked: ImageGeneration,
    fields: dict[str, Any],
    event: str,
    request: Request,
    caller: Caller,
    service: Service,
) -> ImagesAnswer | Response:
    """Draw what was asked; `fields` of our own request stand beside, `event` names the stream's."""
    body = await to_thread.run_sync(_translate, asked, fields, service)
    picture_format = asked.output_format or "png"
    generation = await place_order(body, picture_format, request, caller, service, None, False)
    if asked.stream:
        events = _stream(generation, event, asked, service)
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)
    answer = await wait_for_answer(generation, request, service)
    images = []
    for info in answer.images:
        if asked.response_format == "url":
            url = str(request.base_url).rstrip("/") + info.url
            images.append(OpenAIImage(b64_json=None, url=url, seed=info.seed))
        else:
            data = await to_thread.run_sync(_read, service, info.id)
            images.append(OpenAIImage(b64_json=data, url=None, seed=info.seed))
    return ImagesAnswer(
        created=int(time.time()), data=images, output_format=picture_format, size=_size(answer)
    )


def _translate(asked: ImageGeneration, fields: dict[str, Any], service: Service) -> GenerateRequest:
    """Our own request for OpenAI's; reads a manifest. Raises InvalidRequest or ModelNotFound."""
    width = height = None
    model = asked.model or service.catalog.default_model(service.settings.default_model)
    entry = service.catalog.get(model)
    upscale = 1
    if asked.size not in (None, "auto"):
        width, height = map(int, asked.size.split("x"))
        upscale = _upscale(width, height, entry, service.catalog)
        width, height = width // upscale, height // upscale
    every = 0
    if asked.stream and asked.partial_images:
        steps = asked.steps or entry.manifest.default_steps
        every = math.ceil(steps / (asked.partial_images + 1))
    return make_body(
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        model=asked.model,
        steps=asked.steps,
        guidance_scale=asked.guidance_scale,
        seed=asked.seed,
        scheduler=asked.scheduler,
        width=width,
        height=height,
        upscale=upscale,
        n=asked.n or 1,
        format=asked.output_format or "png",
        preview_every=every,
        **fields,
    )


def _upscale(width: int, height: int, entry: CatalogEntry, catalog: Catalog) -> int:
    """These clients know sizes only: the upscaler makes what is the native size enlarged."""
    most = largest_upscale(entry, catalog)
    native = most * entry.manifest.resolution
    return most if (width, height) == (native, native) else 1


def _size(answer: GenerateAnswer) -> str:
    made = answer.parameters
    return f"{made.width * made.upscale}x{made.height * made.upscale}"


async def _stream(
    generation: Generation, name: str, asked: ImageGeneration, service: Service
) -> AsyncIterator[bytes]:
    """The generation as OpenAI's events; a client that hangs up cancels it."""
    picture_format = asked.output_format or "png"
    partials: dict[int, int] = {}
    try:
        async for event in generation.follow():
            if isinstance(event.data, PreviewData):
                index = partials.get(event.data.index, 0)
                partials[event.data.index] = index + 1
                if index < (asked.partial_images or 0):
                    data = await to_thread.run_sync(_preview, event.data.image, picture_format)
                    partial = PartialImage(
                        type=f"{name}.partial_image",
                        b64_json=data,
                        created_at=int(time.time()),
                        output_format=picture_format,
                        size=asked.size or "auto",
                        partial_image_index=index,
                    )
                    yield _event(partial.type, partial)
            elif isinstance(event.data, GenerateAnswer):
                for info in event.data.images:
                    completed = CompletedImage(
                        type=f"{name}.completed",
                        b64_json=await to_thread.run_sync(_read, service, info.id),
                        created_at=int(time.time()),
                        output_format=picture_format,
                        size=_size(event.data),
                    )
                    yield _event(completed.type, completed)
            elif event.final:
                failure = Failure(code="generation_cancelled", message="it was cancelled")
                if isinstance(event.data, Failure):
                    failure = event.data
                status = STATUS_BY_CODE.get(failure.code, 500)
                error = openai_error(status, failure.code, failure.message)
                yield _event("error", OpenAIErrorAnswer(error=error))
    finally:
        service.generations.cancel(generation)


def _event(name: str, data: BaseModel) -> bytes:
    return format_sse_event(event=name, data_str=data.model_dump_json())


def _preview(data_url: str, picture_format: PictureFormat) -> str:
    """A preview, a JPEG as data URL, as base64 of a file of `picture_format`."""
    payload = data_url.partition(",")[2]
    if picture_format == "jpeg":
        return payload
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(payload))) as image:
        image.save(buffer, picture_format.upper())
    return base64.b64encode(buffer.getvalue()).decode()


def _read(service: Service, picture_id: str) -> str:
    """The stored file in base64."""
    return base64.b64encode(service.pictures.read(picture_id)).decode()

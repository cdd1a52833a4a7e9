"""Makes pictures of dogs."""

import asyncio
import secrets
import time
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Body, HTTPException, Request
from fastapi.responses import Response

from api.errors import documented
from api.negotiation import picture_answer
from api.routes.breeds import known_breeds
from api.routes.images import PICTURE_CONTENT
from api.schemas import GenerateAnswer, GenerateRequest, Parameters, PictureInfo
from api.service import Service, ServiceDependency
from data.breeds import breeds_in
from models.admission import MAX_SEED
from models.picture import MEDIA_TYPES, PictureFormat, encode, parameters_text
from models.requests import Finished, GeneratedImage, GenerationRequest, Handle, ResolvedRequest

router = APIRouter(tags=["pictures"])

EXAMPLES = {
    "spanish": {
        "summary": "In Spanish",
        "value": {"prompt": "un perro golden retriever en la playa"},
    },
    "settings": {
        "summary": "With settings",
        "value": {
            "prompt": "a photo of a pug dog on the grass",
            "negative_prompt": "blurry",
            "steps": 30,
            "guidance_scale": 5.0,
            "scheduler": "dpmpp_2m_karras",
            "seed": 42,
            "n": 2,
        },
    },
}


@router.post(
    "/generate",
    summary="Make pictures",
    response_model=GenerateAnswer,
    responses={
        200: {
            "description": "The stored pictures as JSON or, by the Accept header, the picture.",
            "content": PICTURE_CONTENT,
        },
        **documented(404, 406, 422, 429, 500, 503, 504),
    },
)
async def generate(
    body: Annotated[GenerateRequest, Body(openapi_examples=EXAMPLES)],
    request: Request,
    service: ServiceDependency,
) -> GenerateAnswer | Response:
    """Draws what the prompt says, in English or Spanish.

    Answers JSON with a link to each picture, or the picture itself for `Accept: image/png`
    (`image/jpeg`, `image/webp`). The picture carries its parameters inside. The same seed and
    the same request give the same bytes. A client that hangs up cancels its request.
    """
    started = time.perf_counter()
    wanted = picture_answer(request.headers.get("accept", "*/*"), body.format, body.n)
    picture_format = wanted or body.format or "png"
    client = request.client.host if request.client else ""

    handle = await to_thread.run_sync(_submit, body, client, service)
    finished = await _wait(handle, request, service)
    pictures = await to_thread.run_sync(_store_all, finished, picture_format, service)

    if wanted is not None:
        data, info = pictures[0]
        headers = {
            "X-Image-Id": info.id,
            "X-Seed": str(info.seed),
            "Content-Disposition": f'inline; filename="{info.id}.{info.format}"',
        }
        return Response(data, media_type=MEDIA_TYPES[wanted], headers=headers)
    done = finished.request
    return GenerateAnswer(
        id=handle.id,
        model=done.model,
        prompt=done.prompt,
        images=[info for _, info in pictures],
        parameters=Parameters.model_validate(done, from_attributes=True),
        warnings=await to_thread.run_sync(_warnings, done, service),
        seconds=round(time.perf_counter() - started, 3),
    )


def _submit(body: GenerateRequest, client: str, service: Service) -> Handle:
    seed = secrets.randbelow(MAX_SEED + 1) if body.seed is None else body.seed
    return service.engine.submit(
        GenerationRequest(
            prompt=body.prompt,
            seeds=tuple((seed + offset) % (MAX_SEED + 1) for offset in range(body.n)),
            model=body.model or service.catalog.default_model(service.settings.default_model),
            negative_prompt=body.negative_prompt,
            steps=body.steps,
            guidance_scale=body.guidance_scale,
            scheduler=body.scheduler,
            width=body.width,
            height=body.height,
            client=client,
        )
    )


async def _wait(handle: Handle, request: Request, service: Service) -> Finished:
    """The end of `handle`, awaited in a thread; cancelled when the client goes or time is up."""

    async def cancel_when_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        handle.cancel()

    watcher = asyncio.create_task(cancel_when_gone())
    timeout = service.settings.request_timeout
    try:
        return await to_thread.run_sync(
            handle.result, timeout, limiter=service.waiting, abandon_on_cancel=True
        )
    except TimeoutError as error:
        raise HTTPException(504, f"not done within {timeout:g} seconds") from error
    finally:
        watcher.cancel()
        handle.cancel()


def _store_all(
    finished: Finished, picture_format: PictureFormat, service: Service
) -> list[tuple[bytes, PictureInfo]]:
    return [_store(image, finished.request, picture_format, service) for image in finished.images]


def _store(
    made: GeneratedImage, request: ResolvedRequest, picture_format: PictureFormat, service: Service
) -> tuple[bytes, PictureInfo]:
    data = encode(made.image, picture_format, parameters_text(request, made.seed))
    picture_id = service.pictures.save(data, picture_format)
    info = PictureInfo(
        id=picture_id,
        url=f"/images/{picture_id}",
        seed=made.seed,
        seconds=round(made.seconds, 3),
        width=made.image.width,
        height=made.image.height,
        format=picture_format,
    )
    return data, info


def _warnings(request: ResolvedRequest, service: Service) -> list[str]:
    """The breeds of the prompt that the model does not know; none where it lists no breeds."""
    known = known_breeds(service.catalog.get(request.model), service.catalog)
    if not known:
        return []
    return [
        f"the model {request.model!r} was not trained on the breed {breed.name!r}: it draws a dog"
        for breed in breeds_in(request.prompt)
        if breed.name not in known
    ]

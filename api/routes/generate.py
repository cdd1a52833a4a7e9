"""Makes pictures of dogs: at once, or in the background."""

import asyncio
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Body, Header, Request
from fastapi.responses import JSONResponse, Response

from api.access import Artist
from api.errors import documented, link
from api.form import FORM_CONTENT, JsonOrFormRoute
from api.generation import Generation
from api.keys import Caller
from api.negotiation import picture_answer, prefers_async
from api.orders import make_order
from api.routes.images import PICTURE_CONTENT
from api.schemas.generate import EXAMPLE_PICTURE, GenerateAnswer, GenerateRequest
from api.schemas.generations import GenerationState
from api.service import Service, ServiceDependency
from models.picture import MEDIA_TYPES, PictureFormat

router = APIRouter(tags=["pictures"], route_class=JsonOrFormRoute)

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
    "variation": {
        "summary": "From a picture",
        "value": {"prompt": "a photo of a pug dog", "init_image": EXAMPLE_PICTURE, "strength": 0.6},
    },
}

ACCEPTED = {
    "model": GenerationState,
    "description": "Taken in; its state, and where to ask for it.",
    "headers": {
        "Location": {
            "description": "The generation's own path, `/generations/{id}`.",
            "schema": {"type": "string"},
        }
    },
    "links": {
        **link("get_generation", "id", "id"),
        **link("listen", "id", "id"),
        **link("delete_generation", "id", "id"),
    },
}

RequestBody = Annotated[GenerateRequest, Body(openapi_examples=EXAMPLES)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r'^([!#-\[\]-~]{1,255}|"[!#-\[\]-~]{1,255}")$',
        description="Makes a retry safe: the same key and the same body from the same client give "
        "the generation that runs or finished, rather than another one. 1 to 255 visible ASCII "
        "characters, best a new UUID; quotes around it do not count. It is forgotten with its "
        "generation, and when that ends without pictures.",
        examples=["8e03978e-40d5-43dd-bc93-6894a57f9324"],
    ),
]


@router.post(
    "/generate",
    summary="Make pictures",
    response_model=GenerateAnswer,
    responses={
        200: {
            "description": "The stored pictures as JSON or, by the Accept header, the picture.",
            "content": PICTURE_CONTENT,
            "links": {
                **link("get_image", "id", "images/0/id"),
                **link("delete_image", "id", "images/0/id"),
            },
        },
        202: {**ACCEPTED, "description": "For `Prefer: respond-async`: its state, and its path."},
        **documented(400, 404, 406, 409, 413, 422, 429, 500, 503, 504),
    },
    openapi_extra=FORM_CONTENT,
)
async def generate(
    body: RequestBody,
    request: Request,
    caller: Artist,
    service: ServiceDependency,
    prefer: Annotated[
        str,
        Header(
            alias="Prefer",
            description="`respond-async` (RFC 7240): answer 202 at once, as `POST /generations`.",
            examples=["respond-async"],
        ),
    ] = "",
    idempotency_key: IdempotencyKey = None,
) -> GenerateAnswer | Response:
    """Draws what the prompt says, in English or Spanish.

    The fields come as JSON, or as a form with `init_image` as a file.
    Answers JSON with a link to each picture, or the picture itself for `Accept: image/png`
    (`image/jpeg`, `image/webp`). The picture carries its parameters inside. The same seed and
    the same request give the same picture (the same bytes while the service has no other work: in
    company of other requests rounding may differ). A client that hangs up cancels its request,
    unless another one waits for the same generation.
    """
    wanted = picture_answer(request.headers.get("accept", "*/*"), body.format, body.n)
    picture_format = wanted or body.format or "png"
    if prefers_async(prefer):
        generation = await place_order(
            body, picture_format, request, caller, service, idempotency_key, True
        )
        accepted = await _accepted(generation, service)
        accepted.headers["Preference-Applied"] = "respond-async"
        return accepted
    generation = await place_order(
        body, picture_format, request, caller, service, idempotency_key, False
    )
    answer = await wait_for_answer(generation, request, service)
    if wanted is None:
        return answer
    [info] = answer.images
    headers = {
        "X-Image-Id": info.id,
        "X-Seed": str(info.seed),
        "Content-Disposition": f'inline; filename="{info.id}.{info.format}"',
    }
    data = await to_thread.run_sync(service.pictures.read, info.id)
    return Response(data, media_type=MEDIA_TYPES[wanted], headers=headers)


@router.post(
    "/generations",
    summary="Make pictures in the background",
    status_code=202,
    response_model=GenerationState,
    responses={202: ACCEPTED, **documented(400, 404, 413, 422, 429, 500, 503)},
    openapi_extra=FORM_CONTENT,
)
async def start_generation(
    body: RequestBody,
    request: Request,
    caller: Artist,
    service: ServiceDependency,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Takes what `POST /generate` takes and answers 202 as soon as it is queued.

    Ask `GET /generations/{id}` how it stands, or listen to `GET /generations/{id}/events`. It goes
    on when the client leaves, and its pictures are stored.
    """
    picture_format = body.format or "png"
    generation = await place_order(
        body, picture_format, request, caller, service, idempotency_key, True
    )
    return await _accepted(generation, service)


async def place_order(
    body: GenerateRequest,
    picture_format: PictureFormat,
    request: Request,
    caller: Caller,
    service: Service,
    idempotency_key: str | None,
    asynchronous: bool,
) -> Generation:
    """The generation that `body` begins, or the one that its Idempotency-Key names."""
    request_id: str = request.state.request_id
    order = await to_thread.run_sync(
        make_order,
        *(body, picture_format, caller, request_id, service.settings, service.catalog),
        limiter=service.decoding if body.init_image else None,
    )
    key = (caller.client, idempotency_key.strip('"')) if idempotency_key else None
    return await service.generations.start(order, key, asynchronous)


async def _accepted(generation: Generation, service: Service) -> Response:
    """The 202 answer, once the engine has said where in the queue it stands."""
    await generation.wait_for(lambda: bool(generation.events))
    state = generation.state(service.generations.ahead(generation))
    headers = {"Location": f"/generations/{generation.id}"}
    return JSONResponse(state.model_dump(mode="json"), 202, headers)


async def wait_for_answer(
    generation: Generation, request: Request, service: Service
) -> GenerateAnswer:
    """The answer; where the last client that waits for it hangs up, the work is cancelled."""

    async def client_goes() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.create_task(client_goes())
    ended = asyncio.create_task(generation.wait_for(lambda: generation.ended))
    generation.waiting += 1
    try:
        await asyncio.wait((gone, ended), return_when=asyncio.FIRST_COMPLETED)
        return generation.answer()
    finally:
        gone.cancel()
        ended.cancel()
        generation.waiting -= 1
        if not generation.waiting and not generation.asynchronous:
            service.generations.cancel(generation)

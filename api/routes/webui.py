"""Drawing through AUTOMATIC1111's WebUI API, for the clients that speak it."""

import base64
import io
import json
from datetime import UTC, datetime
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from PIL import Image

from api.access import Artist, Viewer, requires
from api.errors import documented
from api.init_image import UNCHECKED_HEAD, open_picture
from api.keys import Caller
from api.orders import make_body
from api.routes.generate import place_order, wait_for_answer
from api.schemas.generate import GenerateAnswer, GenerateRequest
from api.schemas.webui import (
    Img2Img,
    Options,
    OverrideSettings,
    PngInfo,
    PngInfoRequest,
    Progress,
    ProgressState,
    Txt2Img,
    WebUiError,
    WebUiPictures,
)
from api.service import Service, ServiceDependency
from api.webui import PREVIEW_EVERY, choose_model, find_scheduler, split_parameters, take_lora
from models.errors import GenerationCancelled, InvalidRequest
from models.picture import read_parameters
from models.schedulers import SCHEDULERS

router = APIRouter(prefix="/sdapi/v1", tags=["WebUI"])


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return documented(*statuses, shape=WebUiError)


DRAWING_ERRORS = _errors(400, 404, 413, 422, 429, 500, 503, 504)


@router.post("/txt2img", summary="Make pictures (WebUI)", responses=DRAWING_ERRORS)
async def txt2img(
    body: Txt2Img, request: Request, caller: Artist, service: ServiceDependency
) -> WebUiPictures:
    """The WebUI's txt2img, with `<lora:NAME:1>` in the prompt. Of hires, `enable_hr` and `hr_scale`
    count (one decoder, no second pass); scripts, ControlNet and the like are ignored. What was
    interrupted answers no pictures."""
    return await _draw(body, {}, request, caller, service)


@router.post("/img2img", summary="Draw a picture anew (WebUI)", responses=DRAWING_ERRORS)
async def img2img(
    body: Img2Img, request: Request, caller: Artist, service: ServiceDependency
) -> WebUiPictures:
    """The WebUI's img2img from one picture, without masks."""
    fields = {
        "init_image": _as_data_url(body.init_images[0]),
        "strength": body.denoising_strength,
    }
    return await _draw(body, fields, request, caller, service)


@router.get("/progress", summary="How far is my drawing? (WebUI)", responses=_errors(422))
async def progress(
    caller: Viewer,
    service: ServiceDependency,
    skip_current_image: Annotated[
        bool, Query(description="Leave the preview out.", examples=[True])
    ] = False,
) -> Progress:
    """Of the oldest drawing that this client began through the WebUI's API."""
    drawing = service.webui.drawing(caller.client)
    if not drawing:
        state = ProgressState(job_count=0, sampling_step=0, sampling_steps=0)
        return Progress(progress=0, eta_relative=0, state=state, current_image=None)
    oldest = drawing[0]
    now = oldest.state(service.generations.ahead(oldest))
    step, steps = now.step or 0, now.steps or 0
    share = step / steps if steps else 0.0
    spent = (datetime.now(UTC) - (now.started or now.created)).total_seconds()
    preview = None if skip_current_image else oldest.preview
    return Progress(
        progress=share,
        eta_relative=spent / share - spent if share else 0.0,
        state=ProgressState(
            job=oldest.id,
            job_count=len(drawing),
            job_timestamp=now.created.strftime("%Y%m%d%H%M%S"),
            sampling_step=step,
            sampling_steps=steps,
        ),
        current_image=preview.image.partition(",")[2] if preview else None,
    )


@router.post("/interrupt", summary="Stop my drawing (WebUI)")
@router.post("/skip", name="skip", summary="Stop my drawing, too (WebUI)")
async def interrupt(caller: Artist, service: ServiceDependency) -> dict[str, str]:
    """Stops the oldest drawing that this client began through the WebUI's API, if there is one."""
    for generation in service.webui.drawing(caller.client)[:1]:
        service.generations.cancel(generation)
    return {}


@router.post(
    "/png-info",
    summary="What was a picture made with? (WebUI)",
    dependencies=[requires("viewer")],
    responses=_errors(400, 413, 422),
)
async def png_info(body: PngInfoRequest, service: ServiceDependency) -> PngInfo:
    """Reads the parameters inside a PNG, JPEG or WebP, of this service or of the WebUI."""

    def read() -> str:
        if not body.image.strip():
            return ""
        with open_picture(_as_data_url(body.image), "image") as image:
            return read_parameters(image)

    text = await to_thread.run_sync(read, limiter=service.decoding)
    items = {"parameters": text} if text else {}
    return PngInfo(info=text, items=items, parameters=split_parameters(text))


@router.get(
    "/options",
    summary="Which model is chosen? (WebUI)",
    responses=_errors(404),
)
def get_options(caller: Viewer, service: ServiceDependency) -> Options:
    """The options that mean something here."""
    chosen = service.webui.checkpoints.get(caller.client) or service.settings.default_model
    return Options(sd_model_checkpoint=service.catalog.default_model(chosen))


@router.post(
    "/options",
    summary="Choose a model (WebUI)",
    responses=_errors(400, 404, 413, 422, 500),
)
async def set_options(
    body: OverrideSettings, caller: Artist, service: ServiceDependency
) -> dict[str, str]:
    """Sets the model that the WebUI's API draws with for this client; loads it."""
    if body.sd_model_checkpoint:
        entry = await to_thread.run_sync(service.catalog.get, body.sd_model_checkpoint)
        service.webui.checkpoints[caller.client] = entry.manifest.name
        await to_thread.run_sync(service.engine.warm_up, entry.manifest.name)
    return {}


def _as_data_url(picture: str) -> str:
    head = picture[:6].lower()
    return picture if head.startswith(("data:", "http:", "https:")) else UNCHECKED_HEAD + picture


async def _draw(
    asked: Txt2Img, fields: dict[str, Any], request: Request, caller: Caller, service: Service
) -> WebUiPictures:
    body = await to_thread.run_sync(_translate, asked, fields, caller, service)
    generation = await place_order(body, "png", request, caller, service, None, False)
    parameters = asked.model_dump(exclude={"init_images"})
    with service.webui.draws(caller.client, generation):
        try:
            answer = await wait_for_answer(generation, request, service)
        except GenerationCancelled:
            info = json.dumps({"interrupted": True, "prompt": body.prompt})
            return WebUiPictures(images=[], parameters=parameters, info=info)
    files = [await to_thread.run_sync(service.pictures.read, image.id) for image in answer.images]
    images = [base64.b64encode(file).decode() for file in files]
    return WebUiPictures(
        images=[] if asked.send_images is False else images,
        parameters=parameters,
        info=json.dumps(_info(answer, files)),
    )


def _translate(
    asked: Txt2Img, fields: dict[str, Any], caller: Caller, service: Service
) -> GenerateRequest:
    """Our own request for the WebUI's; reads manifests. Raises InvalidRequest or ModelNotFound."""
    prompt, lora = take_lora(asked.prompt)
    settings = asked.override_settings
    chosen = service.webui.checkpoints.get(caller.client)
    checkpoint = (settings and settings.sd_model_checkpoint) or chosen
    default = checkpoint or service.settings.default_model
    model = choose_model(lora, service.catalog.default_model(default), service.catalog)
    return make_body(
        prompt=prompt,
        negative_prompt=asked.negative_prompt or "",
        model=model,
        steps=asked.steps,
        guidance_scale=asked.cfg_scale,
        seed=None if asked.seed == -1 else asked.seed,
        scheduler=find_scheduler(asked.sampler_name or asked.sampler_index, asked.scheduler),
        width=asked.width,
        height=asked.height,
        upscale=_upscale(asked),
        n=(asked.batch_size or 1) * (asked.n_iter or 1),
        format="png",
        preview_every=PREVIEW_EVERY,
        **fields,
    )


def _upscale(asked: Txt2Img) -> int:
    if not asked.enable_hr:
        return 1
    scale = 2.0 if asked.hr_scale is None else asked.hr_scale
    if not scale.is_integer():
        raise InvalidRequest(f"hr_scale {scale:g}: must be a whole number")
    return int(scale)


def _info(answer: GenerateAnswer, files: list[bytes]) -> dict[str, Any]:
    """What the WebUI says of its pictures."""
    made = answer.parameters
    seeds = [image.seed for image in answer.images]
    return {
        "prompt": answer.prompt,
        "all_prompts": [answer.prompt] * len(seeds),
        "negative_prompt": made.negative_prompt,
        "all_negative_prompts": [made.negative_prompt] * len(seeds),
        "seed": seeds[0],
        "all_seeds": seeds,
        "width": made.width,
        "height": made.height,
        "sampler_name": SCHEDULERS[made.scheduler].label,
        "cfg_scale": made.guidance_scale,
        "steps": made.steps,
        "batch_size": len(seeds),
        "denoising_strength": made.strength,
        "sd_model_name": answer.model,
        "infotexts": [_parameters_of(file) for file in files],
        "job_timestamp": datetime.now(UTC).strftime("%Y%m%d%H%M%S"),
        "warnings": answer.warnings,
    }


def _parameters_of(file: bytes) -> str:
    with Image.open(io.BytesIO(file)) as image:
        return read_parameters(image)

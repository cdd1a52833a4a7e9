"""Turns the body of a request into work for the engine."""

import secrets
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pydantic import ValidationError

from api.breeds import breed_warnings
from api.errors import describe
from api.init_image import read_init_image
from api.keys import Caller
from api.schemas.generate import GenerateRequest
from api.settings import Settings
from models.admission import MAX_SEED, resolve
from models.catalog import Catalog
from models.errors import InvalidRequest
from models.picture import PictureFormat
from models.requests import GenerationRequest


@dataclass(frozen=True)
class Order:
    """What the engine is to draw, and what its answer needs besides."""

    request: GenerationRequest
    caller: Caller
    pixel_steps: int
    """Width times height times steps, over all pictures."""
    timeout: float
    """Seconds; the request's own."""
    picture_format: PictureFormat
    warnings: list[str]
    asked: dict[str, Any]
    """The body as it was sent, a picture in it replaced by its hash."""
    fingerprint: str
    """Equal for equal bodies that are answered in the same file format."""
    request_id: str
    placed: float
    """`time.perf_counter()` at the start."""


def make_body(**fields: Any) -> GenerateRequest:
    """A request that came in the words of another API; raises InvalidRequest."""
    try:
        return GenerateRequest(**fields)
    except ValidationError as error:
        raise InvalidRequest("; ".join(map(describe, error.errors()))) from error


def make_order(
    body: GenerateRequest,
    picture_format: PictureFormat,
    caller: Caller,
    request_id: str,
    settings: Settings,
    catalog: Catalog,
) -> Order:
    """The order that `body` is; reads files and decodes a picture, so it is for a thread.

    Raises InvalidRequest, ModelNotFound or InvalidModel.
    """
    placed = time.perf_counter()
    timeout = settings.request_timeout if body.timeout is None else body.timeout
    if timeout > settings.request_timeout:
        raise InvalidRequest(f"timeout {timeout:g}: must be at most {settings.request_timeout:g}")
    model = body.model or catalog.default_model(settings.default_model)
    warnings = breed_warnings(body.prompt, model, catalog)
    init_image = None
    if body.init_image is not None:
        init_image = read_init_image(body.init_image, shorter_side=settings.max_side)
    seed = secrets.randbelow(MAX_SEED + 1) if body.seed is None else body.seed
    request = GenerationRequest(
        prompt=body.prompt,
        seeds=tuple((seed + offset) % (MAX_SEED + 1) for offset in range(body.n)),
        model=model,
        negative_prompt=body.negative_prompt,
        steps=body.steps,
        guidance_scale=body.guidance_scale,
        scheduler=body.scheduler,
        width=body.width,
        height=body.height,
        upscale=body.upscale,
        init_image=init_image,
        strength=body.strength,
        preview_every=body.preview_every,
        attention=body.attention,
        timeout=timeout,
        client=caller.client,
    )
    fingerprint = sha256(f"{picture_format} {body.model_dump_json()}".encode()).hexdigest()
    resolved = resolve(request, catalog, settings.limits)
    return Order(
        request=request,
        caller=caller,
        pixel_steps=resolved.width * resolved.height * resolved.steps * body.n,
        timeout=timeout,
        picture_format=picture_format,
        warnings=warnings,
        asked=_asked(body),
        fingerprint=fingerprint,
        request_id=request_id,
        placed=placed,
    )


def _asked(body: GenerateRequest) -> dict[str, Any]:
    asked = body.model_dump(mode="json", exclude_unset=True)
    if body.init_image is not None:
        asked["init_image"] = f"sha256:{sha256(body.init_image.encode()).hexdigest()}"
    return asked

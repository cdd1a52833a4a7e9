"""Fills in a request's defaults from its model and refuses what the model cannot serve."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from models.catalog import Catalog, CatalogEntry
from models.errors import InvalidModel, InvalidRequest, ModelNotFound
from models.manifest import UPSCALER_FOLDER
from models.prompt_weights import parse_weights
from models.requests import GenerationRequest, Limits, ResolvedRequest
from models.schedulers import check_scheduler

T = TypeVar("T")

MAX_SEED = 2**32 - 1
MAX_GUIDANCE_SCALE = 30.0
DEFAULT_STRENGTH = 0.75
STABLE_DIFFUSION_MULTIPLE = 64
"""Stable Diffusion v1 and v2: factor 8 of the VAE times three halvings in the U-Net."""


def resolve(request: GenerationRequest, catalog: Catalog, limits: Limits) -> ResolvedRequest:
    """`request` with its model's defaults; reads the model's configs, never its weights.

    Raises ModelNotFound, or InvalidRequest with the field and the value.
    """
    entry = catalog.get(request.model)
    manifest = entry.manifest
    resolved = ResolvedRequest(
        prompt=request.prompt,
        seeds=request.seeds,
        model=request.model,
        negative_prompt=request.negative_prompt,
        upscale=request.upscale,
        init_image=request.init_image,
        strength=DEFAULT_STRENGTH if request.strength is None else request.strength,
        preview_every=request.preview_every,
        attention=request.attention,
        timeout=request.timeout,
        client=request.client,
        steps=_either(request.steps, manifest.default_steps),
        guidance_scale=_either(request.guidance_scale, manifest.default_guidance_scale),
        scheduler=_either(request.scheduler, manifest.default_scheduler),
        width=_either(request.width, manifest.resolution),
        height=_either(request.height, manifest.resolution),
    )
    _check(resolved, size_multiple(entry, catalog), limits)
    _check_upscale(resolved, entry, catalog, limits)
    return resolved


def _either(value: T | None, default: T) -> T:
    return default if value is None else value


def size_multiple(entry: CatalogEntry, catalog: Catalog) -> int:
    """The pixels that width and height must be a multiple of: VAE factor times U-Net factor."""
    folder = _pipeline_folder(entry, catalog)
    if folder is None:
        return STABLE_DIFFUSION_MULTIPLE
    return _factor(folder / "vae") * _factor(folder / "unet")


def largest_upscale(entry: CatalogEntry, catalog: Catalog) -> int:
    """The `upscale` that the model's base has a decoder for; 1 where it has none."""
    folder = _pipeline_folder(entry, catalog)
    if folder is None or not (folder / UPSCALER_FOLDER).is_dir():
        return 1
    return _factor(folder / UPSCALER_FOLDER) // _factor(folder / "vae")


def _pipeline_folder(entry: CatalogEntry, catalog: Catalog) -> Path | None:
    """Where the model's U-Net is; None for an adapter whose base the catalog does not hold."""
    if entry.manifest.kind != "adapter":
        return entry.folder
    try:
        return catalog.get(entry.manifest.base or "").folder
    except ModelNotFound:
        return None


def _factor(component: Path) -> int:
    """How often a component's blocks halve height and width, as a power of two."""
    file = component / "config.json"
    try:
        return _read_factor(file, file.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, TypeError) as error:
        label = f"{component.parent.name}/{component.name}/config.json"
        raise InvalidModel(f"{label}: no block_out_channels can be read") from error


@lru_cache(256)
def _read_factor(file: Path, written: int) -> int:
    """The factor of a config that was `written` then: every request and listing asks for it."""
    config: dict[str, Any] = json.loads(file.read_bytes())
    return int(2 ** (len(config["block_out_channels"]) - 1))


def _check(request: ResolvedRequest, multiple: int, limits: Limits) -> None:
    for field, side in (("width", request.width), ("height", request.height)):
        _check_range(field, side, multiple, limits.max_side)
        if side % multiple:
            raise InvalidRequest(
                f"{field} {side}: the model {request.model!r} draws multiples of {multiple} only"
            )
    _check_range("steps", request.steps, 1, limits.max_steps)
    _check_range("guidance_scale", request.guidance_scale, 0, MAX_GUIDANCE_SCALE)
    _check_range("n", len(request.seeds), 1, limits.max_images)
    for seed in request.seeds:
        _check_range("seed", seed, 0, MAX_SEED)
    check_scheduler(request.scheduler, request.steps)
    _check_range("preview_every", request.preview_every, 0, limits.max_steps)
    if not 0 < request.strength <= 1:
        raise InvalidRequest(f"strength {request.strength}: must be above 0 and at most 1")
    if request.init_image is not None and int(request.steps * request.strength) < 1:
        raise InvalidRequest(
            f"strength {request.strength}: of {request.steps} steps it leaves none to take"
        )
    if request.timeout is not None and not request.timeout > 0:
        raise InvalidRequest(f"timeout {request.timeout}: must be above 0")
    for field, prompt in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt)):
        try:
            parse_weights(prompt)
        except ValueError as error:
            raise InvalidRequest(f"{field}: {error}") from error


def _check_upscale(
    request: ResolvedRequest, entry: CatalogEntry, catalog: Catalog, limits: Limits
) -> None:
    if request.upscale == 1:
        return
    most = largest_upscale(entry, catalog)
    if most == 1:
        raise InvalidRequest(
            f"upscale {request.upscale}: the base of the model {request.model!r} has no upscaler"
        )
    if request.upscale != most:
        raise InvalidRequest(
            f"upscale {request.upscale}: the model {request.model!r} takes 1 or {most}"
        )
    for field, side in (("width", request.width), ("height", request.height)):
        if side * most > limits.max_side:
            raise InvalidRequest(
                f"upscale {most}: {field} {side} becomes {side * most}, above {limits.max_side}"
            )


def _check_range(field: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # also refuses a NaN
        raise InvalidRequest(f"{field} {value}: must be from {least} to {most}")

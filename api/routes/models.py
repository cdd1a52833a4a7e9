"""The models one may ask for: listed, taken in, loaded, described, given out, deleted."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, File, Form, HTTPException, Query, UploadFile
from fastapi.responses import FileResponse, StreamingResponse

from api.access import requires
from api.errors import documented, link
from api.schemas.catalog import (
    MAX_DESCRIPTION,
    MAX_TAGS,
    ModelChange,
    ModelDetail,
    ModelInfo,
    ModelList,
    Tag,
)
from api.service import Service, ServiceDependency
from api.uploads import chunks, pack, take_upload
from models.admission import largest_upscale, size_multiple
from models.catalog import Catalog, CatalogEntry
from models.errors import GenerationFailed, InvalidModel
from models.formats import Format
from models.manifest import NAME_PATTERN

router = APIRouter(tags=["models"])

PREVIEW_FILE = "preview.png"
EVALUATION_FILE = "evaluation.json"
BINARY = {"schema": {"type": "string", "format": "binary"}}


@router.get(
    "/models",
    summary="Which models are there?",
    dependencies=[requires("viewer")],
    responses={200: {"links": link("get_model", "name", "models/0/name")}},
)
def list_models(service: ServiceDependency) -> ModelList:
    """Every whole model of the catalog; one that is published is listed without a restart."""
    catalog, entries = service.catalog, service.catalog.entries()
    if not entries:
        return ModelList(models=[])
    default = _default(service, entries)
    resident = service.engine.describe().resident
    sizes: dict[str, dict[str, int]] = {}  # by base: there may be very many adapters
    infos = []
    for entry in entries:
        base = entry.manifest.base if entry.manifest.kind == "adapter" else None
        key = base or entry.manifest.name
        try:
            if key not in sizes:
                sizes[key] = _sizes(entry, catalog)
            infos.append(ModelInfo(**_fields(entry, sizes[key], default, resident)))
        except InvalidModel:
            continue
    return ModelList(models=infos)


@router.post(
    "/models",
    summary="Bring a model of your own",
    dependencies=[requires("trainer")],
    status_code=201,
    responses=documented(400, 409, 413, 422, 500),
)
async def import_model(
    service: ServiceDependency,
    file: Annotated[
        UploadFile,
        File(
            description="A zip of a diffusers folder, a single-file Stable Diffusion checkpoint, "
            "or a LoRA (kohya's, diffusers' or PEFT's). Safetensors only.",
            examples=["rex.safetensors"],
        ),
    ],
    name: Annotated[
        str,
        Form(pattern=NAME_PATTERN, description="What to call it.", examples=["rex"]),
    ],
    base: Annotated[
        str | None,
        Form(
            max_length=64,
            description="The model that it adapts or was trained from; needed for a LoRA or a "
            "single-file checkpoint where its shapes fit none or several of the bases.",
            examples=["dogbooth-base"],
        ),
    ] = None,
    description: Annotated[
        str | None,
        Form(
            max_length=MAX_DESCRIPTION,
            description="What it draws; instead of what the file says.",
            examples=["Rex, our dog."],
        ),
    ] = None,
    tags: Annotated[
        list[Tag] | None,
        Form(max_length=MAX_TAGS, description="Words to sort it by.", examples=[["dog"]]),
    ] = None,
) -> ModelDetail:
    """Recognised and checked by its content, then served at once; what is refused leaves nothing.

    Nothing in the file is ever run: pickles, links, unknown files, configurations of other classes
    and weights of other shapes are refused, the message says which file and why.
    """
    await to_thread.run_sync(service.trainings.check_name, name)
    told = {"description": description, "tags": tags}
    entry = await to_thread.run_sync(
        lambda: take_upload(
            file.file,
            file.filename or "",
            name,
            service.catalog,
            service.settings.home,
            service.settings.max_upload,
            base or None,
            {key: value for key, value in told.items() if value is not None},
        ),
        limiter=service.importing,
    )
    return _detail(entry, service)


@router.get(
    "/models/{name}",
    summary="What is this model?",
    dependencies=[requires("viewer")],
    responses=documented(404, 422, 500),
)
def get_model(name: str, service: ServiceDependency) -> ModelDetail:
    """One model, with how it was trained and evaluated."""
    return _detail(service.catalog.get(name), service)


@router.patch(
    "/models/{name}",
    summary="Describe a model",
    dependencies=[requires("admin")],
    responses=documented(400, 403, 404, 422, 500),
)
def change_model(name: str, change: ModelChange, service: ServiceDependency) -> ModelDetail:
    """Its description, its tags, and whether it is the default.

    A model that ships with dogbooth may become the default; the rest of it stays as it is.
    """
    fields = change.model_dump(exclude={"default"}, exclude_none=True)
    if fields:
        service.catalog.amend(name, **fields)
    entry = service.catalog.get(name)
    if change.default:
        service.catalog.choose_default(name)
    elif change.default is False and _default(service) == name:
        service.catalog.choose_default(None)
    return _detail(entry, service)


@router.delete(
    "/models/{name}",
    summary="Delete a model",
    dependencies=[requires("admin")],
    status_code=204,
    responses=documented(403, 404, 409, 422, 500),
)
async def delete_model(name: str, service: ServiceDependency) -> None:
    """Out of memory and off the disk; 409 while generations or other models need it."""
    await to_thread.run_sync(service.catalog.check_removable, name)
    await asyncio.wrap_future(service.engine.unload(name))
    await to_thread.run_sync(service.catalog.remove, name)


@router.get(
    "/models/{name}/preview.png",
    summary="See what a model draws",
    dependencies=[requires("viewer")],
    response_class=FileResponse,
    responses={
        200: {"description": "The grid of its training.", "content": {"image/png": BINARY}},
        **documented(404, 422, 500),
    },
)
def get_preview(name: str, service: ServiceDependency) -> FileResponse:
    """The pictures that were drawn when it was made; 404 where there are none."""
    path = service.catalog.get(name).folder / PREVIEW_FILE
    if not path.is_file():
        raise HTTPException(404, f"the model {name!r} has no preview")
    return FileResponse(path, media_type="image/png")


@router.get(
    "/models/{name}/download",
    summary="Take a model away",
    dependencies=[requires("viewer")],
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "A zip of a diffusers folder, else one safetensors file.",
            "content": {"application/zip": BINARY, "application/octet-stream": BINARY},
        },
        **documented(404, 422, 500),
    },
)
async def download_model(
    name: str,
    service: ServiceDependency,
    form: Annotated[
        Format | None,
        Query(
            alias="format",
            description="`lora` and `kohya` for adapters; `diffusers` and `checkpoint` for all, "
            "adapters merged with their base. Without it: `lora` or `diffusers`.",
            examples=["kohya"],
        ),
    ] = None,
) -> StreamingResponse:
    """As diffusers, AUTOMATIC1111's WebUI, ComfyUI and kohya's scripts read it."""
    file, filename, length = await to_thread.run_sync(
        lambda: pack(name, form, service.catalog, service.settings.home),
        limiter=service.importing,
    )
    media = "application/zip" if filename.endswith(".zip") else "application/octet-stream"
    headers = {
        "Content-Disposition": f'attachment; filename="{filename}"',
        "Content-Length": str(length),
    }
    return StreamingResponse(chunks(file), media_type=media, headers=headers)


@router.post(
    "/models/{name}/load",
    summary="Bring a model into memory",
    dependencies=[requires("trainer")],
    responses=documented(404, 422, 500, 503, 504),
)
async def load_model(name: str, service: ServiceDependency) -> ModelDetail:
    """Answers when it is there: a first picture then need not wait for it."""
    entry = service.catalog.get(name)
    timeout = service.settings.request_timeout
    try:
        await asyncio.wait_for(asyncio.wrap_future(service.engine.warm_up(name)), timeout)
    except TimeoutError as error:
        message = f"{name}: not in memory within {timeout:g} seconds"
        raise GenerationFailed(message, code="timeout") from error
    return _detail(entry, service)


@router.post(
    "/models/{name}/unload",
    summary="Free the memory of a model",
    dependencies=[requires("trainer")],
    responses=documented(404, 409, 422, 500, 503),
)
async def unload_model(name: str, service: ServiceDependency) -> ModelDetail:
    """A base leaves with its adapters; 409 while generations need it."""
    entry = service.catalog.get(name)
    await asyncio.wrap_future(service.engine.unload(name))
    return _detail(entry, service)


def _default(service: Service, entries: Sequence[CatalogEntry] | None = None) -> str:
    return service.catalog.default_model(service.settings.default_model, entries)


def _sizes(entry: CatalogEntry, catalog: Catalog) -> dict[str, int]:
    """What the model's base makes of sizes; raises InvalidModel."""
    return {
        "size_multiple": size_multiple(entry, catalog),
        "upscale": largest_upscale(entry, catalog),
    }


def _fields(
    entry: CatalogEntry, sizes: Mapping[str, int], default: str, resident: Sequence[str]
) -> dict[str, Any]:
    manifest = entry.manifest
    has_preview = (entry.folder / PREVIEW_FILE).is_file()
    return {
        **manifest.model_dump(exclude={"training", "evaluation"}),
        **sizes,
        "default": manifest.name == default,
        "resident": manifest.name in resident,
        "preview": f"/models/{manifest.name}/{PREVIEW_FILE}" if has_preview else None,
    }


def _detail(entry: CatalogEntry, service: Service) -> ModelDetail:
    manifest, folder = entry.manifest, entry.folder
    return ModelDetail(
        **_fields(
            entry,
            _sizes(entry, service.catalog),
            _default(service),
            service.engine.describe().resident,
        ),
        training=manifest.training,
        evaluation=_evaluation(folder) or manifest.evaluation,
        size=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        read_only=service.catalog.is_read_only(entry),
    )


def _evaluation(folder: Path) -> dict[str, Any]:
    """What `evaluation.json` beside the weights says; {} where there is none."""
    try:
        read = json.loads((folder / EVALUATION_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}

"""What the WebUI's API lists: models, samplers, memory, and much that there is none of."""

from typing import Any

from fastapi import APIRouter

from api.access import requires
from api.schemas.webui import (
    Lora,
    Memory,
    NoiseSchedule,
    Sampler,
    SdModel,
)
from api.service import ServiceDependency
from api.webui import SCHEDULES
from models.schedulers import SCHEDULERS

router = APIRouter(prefix="/sdapi/v1", tags=["WebUI"], dependencies=[requires("viewer")])

EMPTY_LISTS = {
    "upscalers": "Upscalers",
    "latent-upscale-modes": "Ways of upscaling latents",
    "sd-vae": "Autoencoders to choose",
    "hypernetworks": "Hypernetworks",
    "face-restorers": "Face restorers",
    "realesrgan-models": "Models of an upscaler",
    "prompt-styles": "Styles",
}
"""What clients ask for at their start and this service has none of."""


@router.get("/sd-models", summary="Which models are there? (WebUI)")
def sd_models(service: ServiceDependency) -> list[SdModel]:
    """Every whole model of the catalog, adapters too: each can be the checkpoint."""
    names = [entry.manifest.name for entry in service.catalog.entries()]
    return [SdModel(title=name, model_name=name, filename=name) for name in names]


@router.get("/loras", summary="Which adapters are there? (WebUI)")
def loras(service: ServiceDependency) -> list[Lora]:
    """Those that `<lora:NAME:1>` in a prompt may name."""
    manifests = [entry.manifest for entry in service.catalog.entries()]
    return [
        Lora(
            name=manifest.name,
            alias=manifest.name,
            path=manifest.name,
            metadata={"base": manifest.base, "instance_prompts": manifest.instance_prompts},
        )
        for manifest in manifests
        if manifest.kind == "adapter"
    ]


@router.post("/refresh-checkpoints", summary="Look for new models (WebUI)")
@router.post("/refresh-loras", name="refresh_loras", summary="Look for new adapters (WebUI)")
async def refresh() -> dict[str, str]:
    """Nothing to do: the catalog is read anew at every question."""
    return {}


@router.get("/samplers", summary="Which samplers are there? (WebUI)")
async def samplers() -> list[Sampler]:
    """By the names that the WebUI gives them, with ours as aliases."""
    return [
        Sampler(
            name=spec.label,
            aliases=[name],
            options={"scheduler": "karras"} if spec.options.get("use_karras_sigmas") else {},
        )
        for name, spec in SCHEDULERS.items()
    ]


@router.get("/schedulers", summary="Which schedules are there? (WebUI)")
async def schedulers() -> list[NoiseSchedule]:
    """`karras` is for the samplers that list it."""
    return [NoiseSchedule(name=name, label=label) for name, label in SCHEDULES.items()]


@router.get("/memory", summary="How much memory is used? (WebUI)")
def memory(service: ServiceDependency) -> Memory:
    """Memory for weights."""
    status = service.engine.describe()
    used, total = status.weights_bytes, status.memory_budget
    share = {"free": max(0, total - used), "used": used, "total": total}
    if status.device.startswith("cuda"):
        return Memory(ram={}, cuda={"system": share})
    return Memory(ram=share, cuda={})


@router.get("/embeddings", summary="Textual inversions (WebUI)")
async def embeddings() -> dict[str, dict[str, Any]]:
    """There are none."""
    return {"loaded": {}, "skipped": {}}


@router.get("/scripts", summary="Scripts (WebUI)")
async def scripts() -> dict[str, list[str]]:
    """There are none."""
    return {"txt2img": [], "img2img": []}


@router.get("/cmd-flags", summary="Command line flags (WebUI)")
async def cmd_flags() -> dict[str, Any]:
    """There are none."""
    return {}


async def _nothing() -> list[dict[str, Any]]:
    """There are none."""
    return []


for _path, _title in EMPTY_LISTS.items():
    router.get(f"/{_path}", name=_path.replace("-", "_"), summary=f"{_title} (WebUI)")(_nothing)

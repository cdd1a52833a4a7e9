"""Says whether the process lives and whether it is ready to draw."""

from fastapi import APIRouter, HTTPException

from api.errors import documented
from api.schemas.service import Health, Readiness
from api.service import ServiceDependency

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> Health:
    """Answers at once, also while pictures are being made or a model is being loaded."""
    return Health(status="ok")


@router.get("/readyz", summary="Is a model in memory?", responses=documented(503))
def readyz(service: ServiceDependency) -> Readiness:
    """200 once a first request need not wait for a model; 503 until then and while ending."""
    status = service.engine.describe()
    if not status.ready:
        raise HTTPException(503, "no model is in memory yet", {"Retry-After": "1"})
    return Readiness(
        device=status.device,
        dtype=status.dtype,
        queued=status.queued,
        running=status.running,
        queue_limit=status.queue_limit,
        resident=list(status.resident),
        restarts=status.restarts,
    )

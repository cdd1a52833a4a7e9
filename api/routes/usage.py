"""Tells what was drawn with which model, and what the asking client may still ask for."""

from anyio import to_thread
from fastapi import APIRouter

from api.access import Viewer
from api.schemas.usage import ClientUsage, ModelUsageInfo, Usage
from api.service import ServiceDependency

router = APIRouter(tags=["usage"])


@router.get("/usage", summary="What was used, and what is left?")
async def get_usage(caller: Viewer, service: ServiceDependency) -> Usage:
    """Counts since the database was made, removed generations included; the client's own limits."""
    models = await to_thread.run_sync(service.history.usage)
    left = await to_thread.run_sync(service.limits.work_left, caller)
    return Usage(
        models=[
            ModelUsageInfo(
                model=row.model,
                generations=row.generations,
                images=row.images,
                seconds=round(row.seconds, 3),
                last_used=row.last_used,
            )
            for row in models
        ],
        client=ClientUsage(
            key=caller.name,
            role=caller.role,
            requests_per_minute=caller.quota.requests_per_minute,
            pixel_steps_per_day=caller.quota.pixel_steps_per_day,
            pixel_steps_left=left,
            concurrent_jobs=caller.quota.concurrent_jobs,
        ),
    )

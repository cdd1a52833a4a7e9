"""Serves the metrics that Prometheus collects."""

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from api.access import requires
from api.service import ServiceDependency

router = APIRouter(tags=["health"])

EXAMPLE = "# TYPE dogbooth_queue_depth gauge\ndogbooth_queue_depth 0.0\n"


@router.get(
    "/metrics",
    summary="What does Prometheus collect?",
    dependencies=[requires("viewer")],
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus' text format.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": EXAMPLE}},
        }
    },
)
def get_metrics(service: ServiceDependency) -> Response:
    """Requests, queue, batches, steps, pictures, model loads, memory, trainings."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

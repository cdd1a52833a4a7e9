"""Tells a training's row and journal in the words of the API. It blocks: for threads."""

import re
from typing import Any

from api.database.tables import TrainingRow
from api.schemas.service import Failure
from api.schemas.trainings import Estimate, Sample, TrainingState
from api.trainings.journal import Line
from api.trainings.store import TrainingStore

TOLD = (
    *("queued", "preparing", "estimate", "running", "step", "validation", "sample"),
    *("evaluating", "died", "resumed", "succeeded", "failed", "cancelled"),
)
"""Events that clients hear; the rest is between the run and the service."""


def state_of(row: TrainingRow, store: TrainingStore) -> TrainingState:
    """Where it stands."""
    report, config = row.report or {}, row.config
    guess = report.get("estimate")
    return TrainingState(
        id=row.id,
        name=row.name,
        state=row.state,  # type: ignore[arg-type]
        position=store.ahead(row) if row.state == "queued" else None,
        class_word=config["class"],
        **{key: config[key] for key in ("base", "method", "preset", "settings", "photos")},
        breeds=config["breeds"],
        step=row.step,
        steps=row.steps,
        loss=report.get("loss"),
        seconds_left=report.get("seconds_left"),
        memory=report.get("memory_bytes"),
        estimate=guess and _estimate(guess),
        error=Failure(code=row.error_code, message=row.error_message or "")
        if row.error_code
        else None,
        model=row.name if row.state == "succeeded" else None,
        samples=samples_of(row.id, store),
        attempts=row.attempts,
        created=row.created,
        started=row.started,
        ended=row.ended,
    )


def samples_of(training_id: str, store: TrainingStore) -> list[Sample]:
    """The grids that are there, by their steps."""
    files = (store.folder(training_id) / "samples").glob("step-*.png")
    steps = sorted(int(found[1]) for path in files if (found := re.search(r"-(\d+)$", path.stem)))
    return [Sample(step=step, url=_sample_url(training_id, step)) for step in steps]


def event_of(training_id: str, line: Line, store: TrainingStore) -> dict[str, Any] | None:
    """The data of a line of its journal, without any path; None for what clients do not hear."""
    fields = dict(line.fields)
    match line.event:
        case "estimate":
            return _estimate(fields).model_dump()
        case "sample":
            return {"step": fields["step"], "url": _sample_url(training_id, fields["step"])}
        case "step":
            memory = fields.pop("memory_bytes")
            return fields | {"memory": memory}
        case "failed":
            return {"code": str(fields["code"]), "message": store.shown(str(fields["message"]))}
    return fields if line.event in TOLD else None


def _estimate(fields: dict[str, Any]) -> Estimate:
    return Estimate(seconds=fields["seconds"], memory=fields["memory_bytes"], fits=fields["fits"])


def _sample_url(training_id: str, step: int) -> str:
    return f"/trainings/{training_id}/samples/{step}"

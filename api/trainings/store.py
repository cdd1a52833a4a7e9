"""The trainings in the database and in their folders: every change of state begins as a line."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select, update

from api.database.connection import Database
from api.database.tables import TrainingRow
from api.paging import Page, newest
from api.trainings.journal import Journal, Line
from api.uploads import scratch_folder
from models.errors import ModelsError

JOURNAL = "report.jsonl"
ACTIVE = ("queued", "preparing", "running", "evaluating")
ENDED = ("succeeded", "failed", "cancelled")


class TrainingNameTaken(ModelsError):
    """A model, or a training that has not ended, has this name."""

    code = "model_exists"


class TrainingStore:
    """Every training. All methods block: they are for threads."""

    def __init__(self, database: Database, home: Path) -> None:
        self._database = database
        self._home = home
        self._root = home / "trainings"

    def shown(self, message: str) -> str:
        """`message` as clients may read it."""
        return without_paths(message, self._home)

    def folder(self, training_id: str) -> Path:
        """Where its photos, its run and its journal lie."""
        return self._root / training_id

    def journal(self, training_id: str) -> Journal:
        return Journal(self.folder(training_id) / JOURNAL)

    @contextmanager
    def new_folder(self, training_id: str) -> Iterator[Path]:
        """A folder for one that the block adds; gone unless it does."""
        with scratch_folder(self._home) as place:
            folder = place / training_id
            folder.mkdir()
            Journal(folder / JOURNAL).append("queued")
            yield folder

    def add(
        self, training_id: str, name: str, client: str, config: dict[str, Any], folder: Path
    ) -> None:
        """Queue it, with `folder` of `new_folder`. Raises TrainingNameTaken."""
        now = datetime.now(UTC)
        with self._database.write() as session:
            self._check_name(session, name)
            self._root.mkdir(exist_ok=True)
            folder.rename(self.folder(training_id))
            session.add(
                TrainingRow(
                    id=training_id,
                    name=name,
                    client=client,
                    config=config,
                    state="queued",
                    cancel_requested=False,
                    attempts=0,
                    created=now,
                    last_event=1,
                )
            )

    def check_name(self, name: str) -> None:
        """Raises TrainingNameTaken where a training that has not ended will publish `name`."""
        with self._database.read() as session:
            self._check_name(session, name)

    def find(self, training_id: str) -> TrainingRow | None:
        with self._database.read() as session:
            return session.get(TrainingRow, training_id)

    def page(
        self, limit: int, cursor: str | None, name: str | None, state: str | None
    ) -> Page[TrainingRow]:
        """The `limit` newest trainings after `cursor`; raises InvalidRequest for a bad one."""
        query = select(TrainingRow)
        if name is not None:
            query = query.where(TrainingRow.name == name)
        if state is not None:
            query = query.where(TrainingRow.state == state)
        with self._database.read() as session:
            return newest(session, TrainingRow, query, limit, cursor)

    def in_state(self, *states: str) -> list[TrainingRow]:
        """The oldest first."""
        query = select(TrainingRow).where(TrainingRow.state.in_(states))
        with self._database.read() as session:
            return list(session.scalars(query.order_by(TrainingRow.created, TrainingRow.id)))

    def ended_before(self, limit: datetime) -> list[TrainingRow]:
        """Those that came to their final state before `limit`."""
        query = select(TrainingRow).where(TrainingRow.state.in_(ENDED), TrainingRow.ended < limit)
        with self._database.read() as session:
            return list(session.scalars(query))

    def with_process(self) -> list[TrainingRow]:
        """Those whose process was not seen to end."""
        with self._database.read() as session:
            return list(session.scalars(select(TrainingRow).where(TrainingRow.pid.is_not(None))))

    def ahead(self, row: TrainingRow) -> int:
        """How many wait or run that came before it."""
        older = TrainingRow.created < row.created
        query = select(func.count()).where(TrainingRow.state.in_(ACTIVE), older)
        with self._database.read() as session:
            return session.scalar(query) or 0

    def counts(self) -> dict[str, int]:
        """How many are in each state."""
        query = select(TrainingRow.state, func.count()).group_by(TrainingRow.state)
        with self._database.read() as session:
            return dict(session.execute(query).tuples().all())

    def note_start(self, training_id: str, pid: int, started: float, device: str) -> None:
        """Keep whose process it is, before that process does anything."""
        with self._database.write() as session:
            row = session.get_one(TrainingRow, training_id)
            row.state, row.device, row.attempts = "preparing", device, row.attempts + 1
            row.pid, row.process_started = pid, started
            row.started = row.started or datetime.now(UTC)

    def note_end(self, training_id: str) -> None:
        """Its process is gone."""
        self._change(training_id, pid=None, process_started=None)

    def request_cancel(self, training_id: str) -> None:
        self._change(training_id, cancel_requested=True)

    def say(self, training_id: str, event: str, **fields: Any) -> TrainingRow:
        """Let something happen to it that its run does not tell; no process of it is alive."""
        self.journal(training_id).append(event, **fields)
        return self.advance(training_id)

    def advance(self, training_id: str) -> TrainingRow:
        """Read what its journal has new, and keep what follows from it."""
        with self._database.read() as session:
            row = session.get_one(TrainingRow, training_id)
        lines = self.journal(training_id).read(row.last_event)
        if not lines:
            return row
        with self._database.write() as session:
            row = session.get_one(TrainingRow, training_id)
            for line in lines:
                apply(row, line, self._home)
            row.last_event = lines[-1].id + 1
            return row

    def remove(self, training_id: str) -> None:
        """One that has ended, with its photos, checkpoints and samples."""
        with scratch_folder(self._home) as place:
            if self.folder(training_id).exists():
                self.folder(training_id).rename(place / training_id)
            with self._database.write() as session:
                session.execute(delete(TrainingRow).where(TrainingRow.id == training_id))

    def _change(self, training_id: str, **values: Any) -> None:
        with self._database.write() as session:
            session.execute(update(TrainingRow).where(TrainingRow.id == training_id).values(values))

    def _check_name(self, session: Any, name: str) -> None:
        query = select(TrainingRow.id).where(
            TrainingRow.name == name, TrainingRow.state.in_(ACTIVE)
        )
        if session.scalar(query.limit(1)) is not None:
            raise TrainingNameTaken(f"name {name!r}: a training that has not ended has it")


def apply(row: TrainingRow, line: Line, home: Path) -> None:
    """What `line` makes of `row`."""
    event, fields = line.event, line.fields
    report = dict(row.report or {})
    if event in ("preparing", "evaluating", "running", "step", *ENDED):
        row.state = "running" if event == "step" else event
    elif event in ("queued", "resumed"):
        row.state = "queued"
    if event in ("running", "step"):
        row.step, row.steps = fields["step"], fields["steps"]
    if event == "resumed":
        row.ended = row.error_code = row.error_message = None
        row.cancel_requested = False
    elif event == "step":
        report |= {key: fields[key] for key in ("loss", "seconds_left", "memory_bytes")}
    elif event == "estimate":
        report["estimate"] = fields
    elif event == "failed":
        row.error_code = str(fields["code"])[:64]
        row.error_message = without_paths(str(fields["message"]), home)
    if event in ENDED:
        row.ended = datetime.now(UTC)
        report.pop("seconds_left", None)
    row.report = report


def without_paths(message: str, home: Path) -> str:
    """`message` without the folder that everything of ours lies in."""
    path = str(home.resolve())
    return message.replace(f"{path}/", "").replace(path, "the home folder").replace("\x00", "")


def write_toml(path: Path, values: dict[str, Any]) -> None:
    """Flat settings as TOML, whose values are JSON's (except null, which is left out)."""
    lines = [
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n".replace("\x7f", "\\u007f")
        for key, value in values.items()
        if value is not None
    ]
    path.write_text("".join(lines), encoding="utf-8")

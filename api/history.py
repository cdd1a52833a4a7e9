"""The generations in the database: written as they happen, read by id, by key and page by page."""

from datetime import UTC, datetime

from sqlalchemy import select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from api.database.connection import Database
from api.database.tables import GenerationImage, GenerationRow, ImageRow, ModelUsage
from api.events import ClientEvent
from api.generation import INTERRUPTED, WAS_INTERRUPTED, Generation, Key
from api.orders import Order
from api.paging import Page, newest
from api.pictures import PictureFile, PictureStore
from api.schemas.generate import GenerateAnswer
from api.schemas.service import Failure

NO_EVENT_YET = 10**9
"""Above the id of every event that a client may have heard of a generation that was interrupted."""
PICTURES_LOCK = 0x646F6764
"""PostgreSQL's advisory lock of who adds or removes pictures; SQLite has one writer anyway."""


class History:
    """Every generation that was queued. All methods block: they are for threads."""

    def __init__(self, database: Database, pictures: PictureStore) -> None:
        self._database = database
        self._pictures = pictures

    def add(self, generation: Generation, order: Order) -> None:
        """Keep one that was queued; takes its Idempotency-Key from one that was cancelled."""
        client, key = generation.client, generation.key and generation.key[1]
        with self._database.write() as session:
            if key is not None:
                session.execute(
                    update(GenerationRow)
                    .where(GenerationRow.client == client, GenerationRow.idempotency_key == key)
                    .values(idempotency_key=None)
                )
            session.add(
                GenerationRow(
                    id=generation.id,
                    state="queued",
                    client=client,
                    model=generation.model,
                    prompt=generation.prompt,
                    request=order.asked,
                    fingerprint=generation.fingerprint,
                    idempotency_key=key,
                    created=generation.created,
                    last_event=NO_EVENT_YET,
                )
            )

    def start(self, generation_id: str, when: datetime) -> None:
        with self._database.write() as session:
            session.execute(
                update(GenerationRow)
                .where(GenerationRow.id == generation_id)
                .values(state="running", started=when)
            )

    def end(self, generation: Generation, event: ClientEvent, files: list[PictureFile]) -> None:
        """Keep what became of it, and its pictures, all or nothing; `event` is its final one."""
        with self._database.write() as session:
            row = session.get_one(GenerationRow, generation.id)
            row.state, row.ended, row.last_event = event.name, event.time, event.id
            progress = generation.progress
            if progress is not None:
                row.step, row.steps = progress.step, progress.steps
            if isinstance(event.data, GenerateAnswer):
                row.answer = event.data.model_dump(mode="json")
                lock_pictures(session)
                for file in files:
                    self._add_picture(session, generation.id, file, event.time)
                _count_usage(session, event.data, event.time)
                return
            row.idempotency_key = None  # a retry starts anew
            if isinstance(event.data, Failure):
                row.error_code, row.error_message = event.data.code, event.data.message

    def interrupt(self) -> int:
        """Mark as failed what a service that is gone left behind; how many that were."""
        with self._database.write() as session:
            rows = session.scalars(
                select(GenerationRow).where(GenerationRow.state.in_(("queued", "running")))
            ).all()
            for row in rows:
                row.state, row.ended, row.idempotency_key = "failed", datetime.now(UTC), None
                row.error_code, row.error_message = INTERRUPTED, WAS_INTERRUPTED
            return len(rows)

    def find(self, generation_id: str) -> GenerationRow | None:
        with self._database.read() as session:
            return session.get(GenerationRow, generation_id)

    def finished_with(self, key: Key) -> GenerationRow | None:
        """The one that finished under this client's Idempotency-Key."""
        with self._database.read() as session:
            return session.scalar(
                select(GenerationRow).where(
                    GenerationRow.client == key[0],
                    GenerationRow.idempotency_key == key[1],
                    GenerationRow.state == "finished",
                )
            )

    def page(
        self, limit: int, cursor: str | None, model: str | None = None, state: str | None = None
    ) -> Page[GenerationRow]:
        """The `limit` newest generations that come after `cursor`.

        Raises InvalidRequest for a cursor that no page gave.
        """
        query = select(GenerationRow)
        if model is not None:
            query = query.where(GenerationRow.model == model)
        if state is not None:
            query = query.where(GenerationRow.state == state)
        with self._database.read() as session:
            return newest(session, GenerationRow, query, limit, cursor)

    def usage(self) -> list[ModelUsage]:
        """The models that drew, most pictures first."""
        with self._database.read() as session:
            query = select(ModelUsage).order_by(ModelUsage.images.desc(), ModelUsage.model)
            return list(session.scalars(query))

    def _add_picture(
        self, session: Session, generation_id: str, file: PictureFile, now: datetime
    ) -> None:
        """The row before the file: a failure leaves a file at worst, which the sweep finds."""
        insert = _insert(session)
        values = {"id": file.id, "format": file.format, "bytes": len(file.data), "created": now}
        statement = insert(ImageRow).values(values)
        session.execute(
            statement.on_conflict_do_update(index_elements=["id"], set_={"created": now})
        )
        link = {"generation_id": generation_id, "image_id": file.id}
        session.execute(insert(GenerationImage).values(link).on_conflict_do_nothing())
        self._pictures.save(file)


def lock_pictures(session: Session) -> None:
    """Of a generation that ends with a picture and a deletion of that picture, one waits."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"SELECT pg_advisory_xact_lock({PICTURES_LOCK})"))


def _insert(session: Session) -> type[postgresql.Insert] | type[sqlite.Insert]:
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    return sqlite.Insert if on_sqlite else postgresql.Insert


def _count_usage(session: Session, answer: GenerateAnswer, now: datetime) -> None:
    seconds = sum(image.seconds for image in answer.images)
    row = {"generations": 1, "images": len(answer.images), "seconds": seconds, "last_used": now}
    sums = {name: getattr(ModelUsage, name) + row[name] for name in row if name != "last_used"}
    statement = _insert(session)(ModelUsage).values(row | {"model": answer.model})
    session.execute(
        statement.on_conflict_do_update(index_elements=["model"], set_=sums | {"last_used": now})
    )

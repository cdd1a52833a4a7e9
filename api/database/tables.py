"""The tables. A change here needs a migration (see `api/database/migrations/env.py`)."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

CONVENTION = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraints have names, so that a later migration can drop them on both databases."""

Json = dict[str, Any]


class UtcDateTime(TypeDecorator[datetime]):
    """A moment with its time zone; SQLite keeps none, so it is written and read as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        assert value.tzinfo is not None, "a time without its zone"
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)


class Table(DeclarativeBase):
    """What every table shares."""

    metadata = MetaData(naming_convention=CONVENTION)
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it so)
        datetime: UtcDateTime,
        int: BigInteger,
        Json: JSON,
    }


class ApiKey(Table):
    """A key that clients may come with; of its secret only the hash is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    """The part of the key that is no secret."""
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    secret_hash: Mapped[str] = mapped_column(String(64))
    """SHA-256 in hexadecimal."""
    requests_per_minute: Mapped[int | None]
    pixel_steps_per_day: Mapped[int | None]
    concurrent_jobs: Mapped[int | None]
    """These three: null leaves it to the settings."""
    created: Mapped[datetime]
    used: Mapped[datetime | None]
    """When it was last seen, to the minute."""
    revoked: Mapped[datetime | None]


class GenerationRow(Table):
    """One generation, from the moment it is queued."""

    __tablename__ = "generations"
    __table_args__ = (
        UniqueConstraint("client", "idempotency_key"),
        Index("ix_generations_created_id", "created", "id"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    """queued, running, finished, failed or cancelled."""
    client: Mapped[str] = mapped_column(String(255))
    """Whose it is: `key:<id>`, or the address of who came without a key."""
    model: Mapped[str] = mapped_column(String(64), index=True)
    prompt: Mapped[str] = mapped_column(Text)
    request: Mapped[Json]
    """The body as it was sent, a picture in it replaced by its hash."""
    fingerprint: Mapped[str] = mapped_column(String(64))
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    created: Mapped[datetime]
    started: Mapped[datetime | None]
    ended: Mapped[datetime | None]
    step: Mapped[int | None]
    steps: Mapped[int | None]
    """How far it came, once it has ended."""
    last_event: Mapped[int]
    """Id of its final event."""
    answer: Mapped[Json | None] = mapped_column(JSON(none_as_null=True))
    """Once finished: what `POST /generate` answers."""
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)


class ImageRow(Table):
    """One picture file."""

    __tablename__ = "images"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    """Hash of its bytes, and its name without the suffix."""
    format: Mapped[str] = mapped_column(String(8))
    bytes: Mapped[int]
    created: Mapped[datetime] = mapped_column(index=True)


class GenerationImage(Table):
    """That a generation made a picture; equal pictures are one file."""

    __tablename__ = "generation_images"

    generation_id: Mapped[str] = mapped_column(
        ForeignKey("generations.id", ondelete="CASCADE"), primary_key=True
    )
    image_id: Mapped[str] = mapped_column(
        ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class ModelUsage(Table):
    """How much a model was used; outlives the generations."""

    __tablename__ = "model_usage"

    model: Mapped[str] = mapped_column(String(64), primary_key=True)
    generations: Mapped[int]
    """That finished."""
    images: Mapped[int]
    seconds: Mapped[float]
    """Of denoising and decoding, over all its pictures."""
    last_used: Mapped[datetime]


class TrainingRow(Table):
    """One training run that was asked for over HTTP."""

    __tablename__ = "trainings"
    __table_args__ = (Index("ix_trainings_created_id", "created", "id"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), index=True)
    """What its model is to be called."""
    client: Mapped[str] = mapped_column(String(255))
    """As of a generation."""
    config: Mapped[Json]
    """What was asked for, its settings resolved."""
    state: Mapped[str] = mapped_column(String(16), index=True)
    """queued, preparing, running, evaluating, succeeded, failed or cancelled."""
    cancel_requested: Mapped[bool]
    """Survives a restart between the wish and the end of the process."""
    device: Mapped[str | None] = mapped_column(String(32))
    """Where it runs: one run at a time on each."""
    pid: Mapped[int | None]
    process_started: Mapped[float | None]
    """Of the process `pid`, seconds since boot: tells it from a later one of the same pid."""
    attempts: Mapped[int]
    """How often a process was started for it."""
    created: Mapped[datetime]
    started: Mapped[datetime | None]
    ended: Mapped[datetime | None]
    step: Mapped[int | None]
    steps: Mapped[int | None]
    last_event: Mapped[int]
    """How many of the lines that the process reported were read."""
    report: Mapped[Json | None] = mapped_column(JSON(none_as_null=True))
    """What those lines said last: loss, seconds left, memory, the estimate."""
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)


class Counter(Table):
    """How much of a limit is used up, up to `expires`; see `api/limits.py`."""

    __tablename__ = "counters"

    key: Mapped[str] = mapped_column(String(400), primary_key=True)
    value: Mapped[int]
    expires: Mapped[datetime] = mapped_column(index=True)

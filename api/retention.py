"""Removes generations and their pictures: on demand, by age, and by the room they take."""

import logging
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Select, delete, func, select
from sqlalchemy.orm import Session

from api.database.connection import Database
from api.database.tables import Counter, GenerationImage, GenerationRow, ImageRow
from api.history import lock_pictures
from api.pictures import PictureStore

logger = logging.getLogger(__name__)

SWEEP_EVERY = 3600.0
"""Seconds."""
BATCH = 500
"""Generations or pictures of one transaction."""


class Retention:
    """What leaves the history and the folder of pictures. All methods block: for threads."""

    def __init__(
        self,
        database: Database,
        pictures: PictureStore,
        keep_days: float | None = None,
        keep_bytes: int | None = None,
    ) -> None:
        self._database = database
        self._pictures = pictures
        self._keep_days = keep_days
        self._keep_bytes = keep_bytes

    def remove_generation(self, generation_id: str) -> None:
        """Remove one that has ended, with the pictures that no other generation made too."""
        with self._database.write() as session:
            self._remove(session, [generation_id], [])

    def remove_picture(self, picture_id: str) -> list[str]:
        """Remove a picture from the folder and from the generations that made it: their ids."""
        with self._database.write() as session:
            lock_pictures(session)
            generations = list(session.scalars(_made(picture_id)))
            for row in generations:
                if row.answer is not None:
                    images = [
                        image | {"attention": _without(image.get("attention", []), picture_id)}
                        for image in _without(row.answer["images"], picture_id)
                    ]
                    row.answer = row.answer | {"images": images}
            session.execute(delete(ImageRow).where(ImageRow.id == picture_id))
            self._pictures.delete(picture_id)
            return [row.id for row in generations]

    def owners(self, picture_id: str) -> set[str]:
        """The clients whose generations made this picture."""
        with self._database.read() as session:
            return {row.client for row in session.scalars(_made(picture_id))}

    def sweep(self) -> None:
        """Take in files that the database does not know; remove what is too old or too much."""
        now = datetime.now(UTC)
        self._adopt()
        removed = 0
        if self._keep_days is not None:
            removed += self._remove_older(now - timedelta(days=self._keep_days))
        if self._keep_bytes is not None:
            removed += self._remove_excess(self._keep_bytes)
        with self._database.write() as session:
            session.execute(delete(Counter).where(Counter.expires < now))
        if removed:
            logger.info("retention: removed %d pictures", removed)

    def _adopt(self) -> None:
        """Files of a service that was killed, or of a version that kept no database."""
        self._pictures.clear_half_written(time.time())
        with self._database.read() as session:
            known = set(session.scalars(select(ImageRow.id)))
        for file in self._pictures.files():
            if file.id in known:
                continue
            with self._database.write() as session:
                lock_pictures(session)
                if session.get(ImageRow, file.id) is None and self._pictures.find(file.id):
                    session.add(
                        ImageRow(
                            id=file.id, format=file.format, bytes=file.bytes, created=file.created
                        )
                    )

    def _remove_older(self, limit: datetime) -> int:
        old_generations = select(GenerationRow.id).where(GenerationRow.ended < limit).limit(BATCH)
        unused = ~select(GenerationImage).where(GenerationImage.image_id == ImageRow.id).exists()
        old_pictures = select(ImageRow.id).where(ImageRow.created < limit, unused).limit(BATCH)
        removed = 0
        while True:
            with self._database.write() as session:
                generations = session.scalars(old_generations).all()
                pictures = session.scalars(old_pictures).all()
                if not generations and not pictures:
                    return removed
                removed += self._remove(session, generations, pictures)

    def _remove_excess(self, limit: int) -> int:
        """The oldest pictures, with their generations, until the rest takes `limit` bytes."""
        oldest = select(ImageRow.id, ImageRow.bytes).order_by(ImageRow.created).limit(BATCH)
        removed = 0
        while True:
            with self._database.write() as session:
                excess = (session.scalar(select(func.sum(ImageRow.bytes))) or 0) - limit
                pictures = []
                for picture_id, size in session.execute(oldest):
                    if excess <= 0:
                        break
                    pictures.append(picture_id)
                    excess -= size
                if not pictures:
                    return removed
                generations = session.scalars(
                    select(GenerationImage.generation_id)
                    .where(GenerationImage.image_id.in_(pictures))
                    .distinct()
                ).all()
                removed += self._remove(session, generations, pictures)

    def _remove(
        self, session: Session, generations: Collection[str], pictures: Collection[str]
    ) -> int:
        """How many pictures that were: those of `pictures` and `generations` that none else has."""
        lock_pictures(session)
        made = select(GenerationImage.image_id).where(
            GenerationImage.generation_id.in_(generations)
        )
        candidates = {*session.scalars(made), *pictures}
        session.execute(delete(GenerationRow).where(GenerationRow.id.in_(generations)))
        left = select(GenerationImage.image_id).where(GenerationImage.image_id.in_(candidates))
        gone = candidates - set(session.scalars(left))
        session.execute(delete(ImageRow).where(ImageRow.id.in_(gone)))
        for picture_id in gone:  # before the commit: a file that stays would be taken in again
            self._pictures.delete(picture_id)
        return len(gone)


def _without(pictures: list[dict[str, Any]], picture_id: str) -> list[dict[str, Any]]:
    return [picture for picture in pictures if picture["id"] != picture_id]


def _made(picture_id: str) -> Select[GenerationRow]:
    return (
        select(GenerationRow)
        .join(GenerationImage, GenerationImage.generation_id == GenerationRow.id)
        .where(GenerationImage.image_id == picture_id)
    )

"""Reads a table page by page, the newest rows first."""

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from sqlalchemy import Select, and_, or_
from sqlalchemy.orm import Session

from api.database.tables import GenerationRow, TrainingRow
from models.errors import InvalidRequest

Row = TypeVar("Row", GenerationRow, TrainingRow)

PageLimit = Annotated[int, Query(ge=1, le=100, description="Of one page, at most.", examples=[20])]
PageCursor = Annotated[
    str | None,
    Query(description="`next` of the page before.", max_length=200, examples=[None]),
]
"""What the routes that list rows are asked for."""


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Some rows, newest first, and where the next ones begin."""

    rows: list[Row]
    cursor: str | None


def newest(
    session: Session, table: type[Row], query: "Select[Any]", limit: int, cursor: str | None
) -> Page[Row]:
    """The `limit` newest rows of `query` that come after `cursor`.

    Raises InvalidRequest for a cursor that no page gave.
    """
    query = query.order_by(table.created.desc(), table.id.desc())
    if cursor is not None:
        created, last_id = _read_cursor(cursor)
        same_moment = and_(table.created == created, table.id < last_id)
        query = query.where(or_(table.created < created, same_moment))
    rows = list(session.scalars(query.limit(limit + 1)))
    more = len(rows) > limit
    rows = rows[:limit]
    return Page(rows, _cursor(rows[-1].created, rows[-1].id) if more else None)


def _cursor(created: datetime, last_id: str) -> str:
    return base64.urlsafe_b64encode(f"{created.isoformat()} {last_id}".encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        created, _, last_id = base64.urlsafe_b64decode(cursor).decode("ascii").partition(" ")
        moment = datetime.fromisoformat(created)
        if moment.tzinfo is None or not last_id.isalnum():
            raise ValueError("not what _cursor writes")
        return moment, last_id
    except (ValueError, binascii.Error, OverflowError) as error:
        raise InvalidRequest(f"cursor {cursor[:80]!r}: is none that an answer gave") from error

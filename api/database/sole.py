"""Lets one service at a time use a database: a second would call the first one's work dead."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import text

from api.database.connection import Database, DatabaseError

PATIENCE = 20.0
"""Seconds that a service waits for the end of the one before it."""
SERVICE_LOCK = 0x646F6763
"""PostgreSQL's advisory lock of the running service."""


@contextmanager
def sole_service(database: Database, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the database for this process up to the end of the block; it blocks, so for a thread.

    The lock ends with the process, however that ends. Raises DatabaseError when another service
    still holds it after `patience` seconds.
    """
    take = _take_sqlite if database.sqlite else _take_postgresql
    deadline = time.monotonic() + patience
    while (release := take(database)) is None:
        if time.monotonic() > deadline:
            shown = database.engine.url.render_as_string()
            raise DatabaseError(f"database_url {shown!r}: another service is running on it")
        time.sleep(0.1)
    try:
        yield
    finally:
        release()


def _take_sqlite(database: Database) -> Callable[[], None] | None:
    """A transaction held open on an empty database beside the real one."""
    connection = sqlite3.connect(
        f"{database.engine.url.database}.lock",
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        connection.close()
        return None
    return connection.close


def _take_postgresql(database: Database) -> Callable[[], None] | None:
    connection = database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    if not connection.scalar(text(f"SELECT pg_try_advisory_lock({SERVICE_LOCK})")):
        connection.close()
        return None

    def release() -> None:
        connection.invalidate()  # its end is the lock's; a pool would keep both
        connection.close()

    return release

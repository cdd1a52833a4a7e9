"""Opens the database: SQLite under the home folder, or PostgreSQL where one is named."""

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session, sessionmaker

logger = logging.getLogger(__name__)

BUSY_TIMEOUT = 30.0
"""Seconds that a writer of SQLite waits for another one."""
MIGRATIONS_LOCK = 0x646F6762
"""PostgreSQL's advisory lock: of two processes that start at once, one migrates."""
MAX_CONNECTIONS = 40


class DatabaseError(ValueError):
    """The database that the settings name cannot be used; says which and why."""


class Database:
    """Sessions on one database; safe to use from any thread, and for threads only (it blocks)."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._readers = sessionmaker(engine)
        writing = engine.execution_options(begin="BEGIN IMMEDIATE")
        self._writers = sessionmaker(writing, expire_on_commit=False)

    @property
    def sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that only reads: SQLite lets others write meanwhile."""
        with self._readers() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction, committed at the end or, after an error, undone.

        On SQLite it takes the write lock at its start: what it reads stays true until it commits.
        """
        with self._writers.begin() as session:
            yield session

    def close(self) -> None:
        self.engine.dispose()


def open_database(url: str | None, home: Path) -> Database:
    """The database of `url`, by default SQLite under `home`, brought to the newest schema.

    Raises DatabaseError, and sqlalchemy's OperationalError where it cannot be reached.
    """
    parsed = _parse(url, home)
    engine = _sqlite(parsed) if parsed.drivername == "sqlite" else _postgresql(parsed)
    try:
        with engine.execution_options(begin="BEGIN IMMEDIATE").begin() as connection:
            _migrate(connection, parsed)
    except BaseException:
        engine.dispose()
        raise
    return Database(engine)


def migrations(connection: Connection) -> Config:
    """Alembic's configuration on an open connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _parse(url: str | None, home: Path) -> URL:
    if url is None:
        home.mkdir(parents=True, exist_ok=True)
        return URL.create("sqlite", database=str(home / "dogbooth.db"))
    try:
        parsed = make_url(url)
    except ArgumentError as error:  # the text may hold a password: it is not shown
        raise DatabaseError(
            "database_url: is no URL, as sqlite:///file or postgresql://…"
        ) from error
    name = parsed.get_backend_name()
    if name in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if name == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite")
    raise DatabaseError(
        f"database_url {parsed.render_as_string()!r}: a file of sqlite:/// or postgresql://"
    )


def _sqlite(url: URL) -> Engine:
    """WAL lets readers go on beside a writer; the default `synchronous` loses no commit."""
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_TIMEOUT, "isolation_level": None},
        pool_size=MAX_CONNECTIONS,
        pool_timeout=BUSY_TIMEOUT,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: Any) -> None:
        _use_wal(connection)
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        """Python's own driver would begin at the first write, too late for what was read before."""
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


def _use_wal(connection: sqlite3.Connection) -> None:
    """Waits for other processes: SQLite's own timeout does not cover a change of the journal.

    The change reads first and then asks for the write lock; to wait while reading could be a
    deadlock, so that SQLite refuses at once where two processes open a new file together.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            primary = error.sqlite_errorcode & 0xFF
            if primary != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _postgresql(url: URL) -> Engine:
    return create_engine(url, pool_size=10, max_overflow=MAX_CONNECTIONS - 10, pool_pre_ping=True)


def _migrate(connection: Connection, url: URL) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATIONS_LOCK})"))
    try:
        command.upgrade(migrations(connection), "head")
    except CommandError as error:
        shown = url.render_as_string()
        raise DatabaseError(
            f"database_url {shown!r}: was made by a newer version: {error}"
        ) from error

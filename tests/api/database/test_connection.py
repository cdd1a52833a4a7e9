"""The database itself: its schema, its migrations, what it refuses, one service at a time."""

import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from api.database.connection import Database, DatabaseError, migrations, open_database
from api.database.sole import sole_service
from api.database.tables import Counter, Table

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    database = open_database(database_url, tmp_path)
    yield database
    database.close()


def add(database: Database, key: str, value: int = 0, expires: datetime = NOON) -> None:
    with database.write() as session:
        session.add(Counter(key=key, value=value, expires=expires))


def test_without_any_setting_it_is_a_file_in_the_home_folder(tmp_path: Path) -> None:
    database = open_database(None, tmp_path / "new" / "home")
    with database.read() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
    database.close()
    assert (tmp_path / "new" / "home" / "dogbooth.db").is_file()


def test_the_migrations_make_the_tables_of_the_code(database: Database) -> None:
    """A changed table without a migration works on new databases only."""
    with database.engine.begin() as connection:
        command.check(migrations(connection))


def test_a_migration_can_be_taken_back(database: Database) -> None:
    with database.engine.begin() as connection:
        command.downgrade(migrations(connection), "base")
        command.upgrade(migrations(connection), "head")
    add(database, "again")


def test_opening_it_again_keeps_what_is_in_it(database_url: str, tmp_path: Path) -> None:
    for expected in ([], ["k"]):
        database = open_database(database_url, tmp_path)
        with database.read() as session:
            assert [row.key for row in session.query(Counter)] == expected
        if not expected:
            add(database, "k")
        database.close()


def test_processes_that_start_at_once_migrate_once(database_url: str, tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def start() -> None:
        try:
            open_database(database_url, tmp_path).close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_it_waits_where_another_process_writes_with_the_old_journal(tmp_path: Path) -> None:
    """SQLite's own timeout does not cover a change of the journal: it would fail at once."""
    writer = sqlite3.connect(
        tmp_path / "dogbooth.db", isolation_level=None, check_same_thread=False
    )
    writer.execute("CREATE TABLE other (id)")
    writer.execute("BEGIN IMMEDIATE")
    leave = threading.Timer(0.3, writer.close)
    leave.start()
    open_database(None, tmp_path).close()
    leave.join()


def test_a_database_of_a_newer_version_is_refused(database: Database, tmp_path: Path) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="was made by a newer version"):
        open_database(database.engine.url.render_as_string(hide_password=False), tmp_path)


def test_times_keep_their_moment(database: Database) -> None:
    """SQLite forgets a zone: a time written in another one would come back hours off."""
    add(database, "k", expires=NOON.astimezone(timezone(timedelta(hours=5))))
    with database.read() as session:
        [row] = session.query(Counter)
        assert (row.expires, row.expires.tzinfo) == (NOON, UTC)


def test_an_error_undoes_the_whole_transaction(database: Database) -> None:
    def half() -> None:
        with database.write() as session:
            session.add(Counter(key="k", value=0, expires=NOON))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    with database.read() as session:
        assert session.query(Counter).count() == 0


def test_what_many_threads_read_and_write_is_not_lost(database: Database) -> None:
    """Python's own transactions on SQLite begin at the write: half of the sums would be lost."""
    add(database, "k")
    errors: list[BaseException] = []

    def count() -> None:
        try:
            for _ in range(20):
                with database.write() as session:
                    row = session.get(Counter, "k", with_for_update=True)
                    assert row is not None
                    row.value += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with database.read() as session:
        assert session.get_one(Counter, "k").value == 160


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("dogs", "database_url: is no URL"),
        ("mysql://dog:secret@localhost/dogs", r"database_url 'mysql://dog:\*\*\*@localhost/dogs'"),
        ("sqlite://", "database_url 'sqlite://'"),
    ],
)
def test_another_kind_of_database_is_refused(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(DatabaseError, match=message):
        open_database(url, tmp_path)


def test_a_server_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(OperationalError, match="[Cc]onnection"):
        open_database("postgresql://dog@127.0.0.1:1/dogs", tmp_path)


def test_a_second_service_waits_and_is_refused(database: Database) -> None:
    with (
        sole_service(database, patience=0),
        pytest.raises(DatabaseError, match="another service is running on it"),
        sole_service(database, patience=0.2),
    ):
        pass
    with sole_service(database, patience=5):
        pass


def test_every_table_is_tested_to_exist(database: Database) -> None:
    with database.read() as session:
        for table in Table.metadata.tables.values():
            assert session.execute(table.select()).all() == []

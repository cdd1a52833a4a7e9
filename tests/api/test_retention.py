"""What is removed by age and by room, and what is taken in."""

import os
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import select, update

from api.database.connection import Database, open_database
from api.database.tables import Counter, GenerationRow, ImageRow, TrainingRow
from api.pictures import PictureFile, PictureStore
from api.retention import Retention
from api.settings import Settings
from api.trainings.store import TrainingStore
from tests.api.conftest import scripted_service
from tests.api.test_history import draw
from tests.api.waiting import start, wait_until

NOW = datetime.now(UTC)


@pytest.fixture
def pictures(kept: Settings) -> PictureStore:
    return PictureStore(kept.home / "images")


def drawn(kept: Settings, count: int) -> list[str]:
    """Ids of generations that finished, the last one now, each other a day before the next."""
    with scripted_service(kept) as (client, scripted):
        ids = [draw(client, scripted, seed=seed).rpartition("/")[2] for seed in range(count)]
        start(client)
    database = open_database(kept.database_url, kept.home)
    with database.write() as session:
        for age, generation_id in enumerate(reversed(ids)):
            row = session.get_one(GenerationRow, generation_id)
            assert row.answer is not None
            row.ended = NOW - timedelta(days=age)
            session.execute(
                update(ImageRow)
                .where(ImageRow.id == row.answer["images"][0]["id"])
                .values(created=row.ended, bytes=1000)
            )
    database.close()
    return ids


def left(database: Database) -> set[str]:
    with database.read() as session:
        query = select(GenerationRow.id).where(GenerationRow.state == "finished")
        return set(session.scalars(query))


def files(kept: Settings) -> int:
    return len([path for path in (kept.home / "images").iterdir() if path.suffix])


def test_without_a_limit_everything_stays(
    kept: Settings, database: Database, pictures: PictureStore
) -> None:
    ids = drawn(kept, 3)
    Retention(database, pictures).sweep()
    assert (left(database), files(kept)) == (set(ids), 3)


def test_what_is_older_than_the_limit_is_removed_with_its_pictures(
    kept: Settings, database: Database, pictures: PictureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.retention.BATCH", 2)
    ids = drawn(kept, 6)
    Retention(database, pictures, keep_days=1.5).sweep()
    assert (left(database), files(kept)) == (set(ids[-2:]), 2)


def test_the_oldest_are_removed_until_the_rest_fits(
    kept: Settings, database: Database, pictures: PictureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.retention.BATCH", 2)
    ids = drawn(kept, 6)
    retention = Retention(database, pictures, keep_bytes=2500)
    retention.sweep()
    assert (left(database), files(kept)) == (set(ids[-2:]), 2)
    retention.sweep()
    assert len(left(database)) == 2


def test_files_that_no_generation_knows_are_taken_in_and_then_kept_as_long_as_others(
    kept: Settings, database: Database, pictures: PictureStore
) -> None:
    """A version without a database left pictures behind: losing them would be no update."""
    new, old = PictureFile("png", b"new"), PictureFile("webp", b"old")
    for picture in (new, old):
        pictures.save(picture)
    (kept.home / "images" / "notes.txt").write_text("not ours")
    path = pictures.find(old.id)
    assert path is not None
    os.utime(path[0], (time.time() - 86_400 * 3,) * 2)
    Retention(database, pictures).sweep()
    with database.read() as session:
        rows = {row.id: (row.format, row.bytes) for row in session.scalars(select(ImageRow))}
    assert rows == {new.id: ("png", 3), old.id: ("webp", 3)}
    Retention(database, pictures, keep_days=2).sweep()
    assert (pictures.find(new.id) is None, pictures.find(old.id) is None) == (False, True)
    assert (kept.home / "images" / "notes.txt").exists()


def test_half_written_files_are_removed_once_they_are_nobodys(
    kept: Settings, database: Database, pictures: PictureStore
) -> None:
    pictures.save(PictureFile("png", b"whole"))
    fresh, stale = kept.home / "images" / ".fresh", kept.home / "images" / ".stale"
    for path in (fresh, stale):
        path.write_bytes(b"half")
    os.utime(stale, (time.time() - 7200,) * 2)
    Retention(database, pictures).sweep()
    assert (fresh.exists(), stale.exists()) == (True, False)


def test_counters_whose_time_is_over_are_removed(
    database: Database, pictures: PictureStore
) -> None:
    with database.write() as session:
        for key, expires in (("old", NOW - timedelta(1)), ("new", NOW + timedelta(1))):
            session.add(Counter(key=key, value=1, expires=expires))
    Retention(database, pictures).sweep()
    with database.read() as session:
        assert session.scalars(select(Counter.key)).all() == ["new"]


def test_trainings_that_ended_long_ago_are_removed_and_their_models_stay(
    kept: Settings, database: Database
) -> None:
    store = TrainingStore(database, kept.home)
    config = {"class": "dog", "base": "tiny", "method": "lora", "preset": "quick"}
    config |= {"settings": {}, "photos": 3, "breeds": []}
    for name, event, days in (("rex", "succeeded", 3), ("a", "cancelled", 3), ("b", "failed", 1)):
        training_id = uuid4().hex
        with store.new_folder(training_id) as folder:
            store.add(training_id, name, "tests", config, folder)
        store.say(training_id, event, code="run_died", message="")
        with database.write() as session:
            session.get_one(TrainingRow, training_id).ended = NOW - timedelta(days)
    with scripted_service(kept.model_copy(update={"keep_days": 2})) as (client, _):

        def names() -> list[str]:
            return [each["name"] for each in client.get("/trainings").json()["trainings"]]

        wait_until(lambda: names() == ["b"])
        assert len(list((kept.home / "trainings").iterdir())) == 1
        assert client.get("/models/rex").status_code == 200


def test_the_service_sweeps_when_it_starts(kept: Settings, database: Database) -> None:
    ids = drawn(kept, 3)
    with scripted_service(kept.model_copy(update={"keep_days": 0.5})):
        wait_until(lambda: left(database) == {ids[-1]})

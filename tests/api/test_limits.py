"""How much a client may ask for, counted for each by itself."""

from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import update

from api.database.connection import Database
from api.database.tables import Counter
from api.keys import Keys, Quota
from api.limits import DatabaseStorage
from api.settings import Settings
from models.errors import QueueFull
from tests.api.conftest import scripted_service
from tests.api.scripted import ScriptedEngine
from tests.api.test_errors import error_of
from tests.api.waiting import DOG, start, state_once, wait_until

COST = 32 * 32 * 2
"""Pixel-steps of DOG."""


def limited(kept: Settings, **limits: Any) -> Settings:
    return kept.model_copy(update=limits)


def refused(client: TestClient, **fields: Any) -> tuple[str, int]:
    """What a generation that is one too many is answered, and when to come back."""
    answer = client.post("/generations", json=DOG | fields)
    message = error_of(answer, 429, "rate_limited")
    return message, int(answer.headers["retry-after"])


def test_requests_of_a_minute_are_counted_for_each_client(
    kept: Settings, database: Database
) -> None:
    keys = Keys(database)
    with scripted_service(limited(kept, requests_per_minute=2)) as (client, _):
        few = {"Authorization": f"Bearer {keys.create('few', 'viewer', Quota())}"}
        more = {"Authorization": f"Bearer {keys.create('more', 'viewer', Quota(3))}"}
        asked = [client.get("/breeds", headers=each) for each in [few] * 3 + [more] * 4]
        assert [answer.status_code for answer in asked] == [200, 200, 429, 200, 200, 200, 429]
        assert error_of(asked[2], 429, "rate_limited") == "more than 2 requests within a minute"
        assert 1 <= int(asked[2].headers["retry-after"]) <= 60
        assert client.get("/breeds").status_code == 200  # without a key: a client of its own
        assert client.get("/healthz").status_code == 200


def test_jobs_at_once_are_bounded_and_free_when_they_end(kept: Settings) -> None:
    with scripted_service(limited(kept, concurrent_jobs=2)) as (client, scripted):
        first, second = start(client), start(client)
        assert refused(client)[0] == "2 jobs of this client wait or run"
        scripted.finish(0)
        state_once(client, first, "finished")
        wait_until(lambda: client.post("/generations", json=DOG).status_code == 202)
        assert refused(client)
        client.delete(second)
        wait_until(lambda: client.post("/generations", json=DOG).status_code == 202)


def test_what_the_engine_refuses_counts_neither_as_a_job_nor_as_work(kept: Settings) -> None:
    settings = limited(kept, concurrent_jobs=1, pixel_steps_per_day=COST)
    with scripted_service(settings) as (client, scripted):
        for _ in range(3):
            scripted.refusal = QueueFull("full", retry_after=1)
            error_of(client.post("/generations", json=DOG), 429, "queue_full")
        scripted.refusal = None
        start(client)


def test_work_of_a_day_is_bounded_over_restarts(kept: Settings, database: Database) -> None:
    settings = limited(kept, pixel_steps_per_day=3 * COST)
    with scripted_service(settings) as (client, _):
        start(client, {**DOG, "n": 2})
        message, wait = refused(client, n=2)
        assert message.endswith(f"of {3 * COST} a day {COST} are left")
        assert 86_000 < wait <= 86_400
    with scripted_service(settings) as (client, _):
        assert client.get("/usage").json()["client"]["pixel_steps_left"] == COST
        assert refused(client, steps=3)
        start(client)
        assert refused(client, steps=1)
        with database.write() as session:
            session.execute(update(Counter).values(expires=datetime.now(UTC) - timedelta(1)))
        start(client)


def test_a_retry_with_the_same_key_costs_nothing(kept: Settings) -> None:
    settings = limited(kept, pixel_steps_per_day=COST, concurrent_jobs=1)
    with scripted_service(settings) as (client, scripted):
        path = start(client, Idempotency_Key="k-1")
        assert start(client, Idempotency_Key="k-1") == path
        scripted.finish(0)
        state_once(client, path, "finished")
        assert start(client, Idempotency_Key="k-1") == path


def test_a_counter_is_as_the_library_wants_it(database: Database) -> None:
    storage = DatabaseStorage(database)
    assert (storage.get("k"), storage.check()) == (0, True)
    assert [storage.incr("k", 60), storage.incr("k", 60, 5)] == [1, 6]
    assert storage.get("k") == 6
    assert 50 < storage.get_expiry("k") - datetime.now(UTC).timestamp() <= 60
    storage.clear("k")
    assert storage.get("k") == 0


def test_without_limits_nothing_is_counted(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    for _ in range(20):
        start(scripted_client)
    usage = scripted_client.get("/usage").json()["client"]
    assert (usage["requests_per_minute"], usage["pixel_steps_left"]) == (None, None)

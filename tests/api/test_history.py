"""What is kept over restarts, and how it is read page by page; on both databases."""

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import func, select, text, update

from api.database.connection import open_database
from api.database.tables import GenerationRow, ImageRow
from api.settings import Settings
from models.requests import Failed, Finished, GeneratedImage, Started, Step
from tests.api.conftest import scripted_service
from tests.api.pictures import data_url, file_of
from tests.api.scripted import ScriptedEngine
from tests.api.test_errors import error_of
from tests.api.test_events import listen
from tests.api.waiting import DOG, in_background, start, state_once


def draw(client: TestClient, scripted: ScriptedEngine, **fields: object) -> str:
    """Start a generation and let it finish; its path."""
    path = start(client, DOG | fields)
    scripted.finish(len(scripted.handles) - 1)
    state_once(client, path, "finished")
    return path


def as_killed(settings: Settings) -> None:
    """Leave the database as a service leaves it that is killed while everything runs."""
    database = open_database(settings.database_url, settings.home)
    with database.write() as session:
        session.execute(update(GenerationRow).values(state="running", ended=None, answer=None))
    database.close()


def test_what_ended_is_the_same_after_a_restart(kept: Settings) -> None:
    with scripted_service(kept) as (client, scripted):
        finished = start(client, {**DOG, "n": 2})
        scripted.emit(0, Started)
        scripted.emit(0, Step, step=3, steps=4)
        scripted.finish(0)
        failed = start(client)
        scripted.emit(1, Failed, code="not_finite", message="the latents left the range")
        cancelled = start(client)
        client.delete(cancelled)
        before = [
            state_once(client, path, "finished", "failed", "cancelled")
            for path in (finished, failed, cancelled)
        ]
    with scripted_service(kept) as (client, _):
        after = [client.get(path).json() for path in (finished, failed, cancelled)]
        pictures = [client.get(image["url"]) for image in after[0]["answer"]["images"]]
    assert after == before
    assert [state["state"] for state in after] == ["finished", "failed", "cancelled"]
    assert (after[0]["step"], after[0]["steps"]) == (3, 4)
    assert [picture.status_code for picture in pictures] == [200, 200]


def test_what_ran_when_the_service_was_killed_has_failed_as_interrupted(kept: Settings) -> None:
    with scripted_service(kept) as (client, _):
        paths = [start(client, Idempotency_Key="k-1"), start(client)]
    as_killed(kept)
    with scripted_service(kept) as (client, scripted):
        for path in paths:
            state = client.get(path).json()
            assert state["state"] == "failed"
            assert state["error"]["code"] == "interrupted"
            assert state["ended"] >= state["created"]
        assert start(client, Idempotency_Key="k-1") not in paths  # a retry starts anew
        assert len(scripted.handles) == 1


def test_what_runs_when_the_service_ends_has_failed_as_interrupted(
    kept: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.generations.LAST_CALL", 0.1)
    engine_ends_it: list[str] = []
    with scripted_service(kept) as (client, scripted):
        path = start(client)
        monkeypatch.setattr(scripted, "end_all", lambda: engine_ends_it.append("later"))
    with scripted_service(kept) as (client, _):
        assert client.get(path).json()["error"]["code"] == "interrupted"


def test_a_listener_that_comes_back_after_a_restart_hears_the_end(kept: Settings) -> None:
    with scripted_service(kept) as (client, scripted):
        finished, interrupted = draw(client, scripted), start(client)
        answer = client.get(finished).json()["answer"]
    database = open_database(kept.database_url, kept.home)
    with database.write() as session:
        session.execute(
            update(GenerationRow)
            .where(GenerationRow.id == interrupted.rpartition("/")[2])
            .values(state="running", ended=None, last_event=10**9)
        )
    database.close()
    with scripted_service(kept) as (client, _):
        [event] = listen(client, finished)
        assert (event.name, event.data) == ("finished", answer)
        assert client.get(f"{finished}/events", headers={"Last-Event-ID": str(event.id)}).text == ""
        [event] = listen(client, interrupted, **{"Last-Event-ID": "17"})
        assert (event.name, event.data["code"]) == ("failed", "interrupted")


def test_a_retry_after_a_restart_gives_what_was_finished(kept: Settings) -> None:
    with scripted_service(kept) as (client, scripted):
        path = start(client, Idempotency_Key="k-1")
        scripted.finish(0)
        answer = state_once(client, path, "finished")["answer"]
    with scripted_service(kept) as (client, scripted):
        assert start(client, Idempotency_Key="k-1") == path
        again = client.post("/generate", json=DOG, headers={"Idempotency-Key": "k-1"})
        assert again.json() == answer
        other = client.post("/generate", json={"prompt": "x"}, headers={"Idempotency-Key": "k-1"})
        error_of(other, 422, "idempotency_key_reused")
        assert scripted.handles == []


def test_pages_hold_every_generation_once_newest_first(kept: Settings) -> None:
    with scripted_service(kept) as (client, scripted):
        paths = [draw(client, scripted, seed=seed) for seed in range(5)]
        found, cursor, sizes = [], None, []
        while True:
            page = client.get(
                "/generations", params={"limit": 2, **({"cursor": cursor} if cursor else {})}
            )
            found += [f"/generations/{each['id']}" for each in page.json()["generations"]]
            sizes.append(len(page.json()["generations"]))
            cursor = page.json()["next"]
            if cursor is None:
                break
            draw(client, scripted)  # what comes in meanwhile is on no later page
    assert found == paths[::-1]
    assert sizes == [2, 2, 1]


def test_generations_of_one_moment_are_on_one_page_each(kept: Settings) -> None:
    """A cursor of the time alone would skip those that share it."""
    with scripted_service(kept) as (client, scripted):
        for _ in range(5):
            draw(client, scripted)
    database = open_database(kept.database_url, kept.home)
    with database.write() as session:
        moment = session.scalar(select(func.min(GenerationRow.created)))
        session.execute(update(GenerationRow).values(created=moment))
    database.close()
    with scripted_service(kept) as (client, _):
        found, cursor = set(), ""
        while cursor is not None:
            params = {"limit": 2, "cursor": cursor} if cursor else {"limit": 2}
            page = client.get("/generations", params=params).json()
            found |= {each["id"] for each in page["generations"]}
            cursor = page["next"]
    assert len(found) == 5


def test_pages_are_of_one_model_or_state(kept: Settings) -> None:
    with scripted_service(kept) as (client, scripted):
        done, rex = draw(client, scripted), draw(client, scripted, model="rex")
        waits, runs = start(client), start(client)
        scripted.emit(3, Started)
        state_once(client, runs, "running")

        def listed(**params: str) -> list[str]:
            page = client.get("/generations", params=params).json()
            return [f"/generations/{each['id']}" for each in page["generations"]]

        assert listed() == [runs, waits, rex, done]
        assert listed(model="rex") == [rex]
        assert listed(model="tiny", state="finished") == [done]
        assert listed(state="queued") == [waits]
        assert listed(state="running") == [runs]
        assert listed(state="failed") == []
        live = client.get("/generations", params={"state": "queued"}).json()["generations"][0]
        assert (live["position"], live["model"], live["prompt"]) == (0, "tiny", "a dog")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"limit": "0"}, "limit '0': "),
        ({"limit": "101"}, "limit '101': "),
        ({"state": "lost"}, "state 'lost': "),
        ({"model": "a\x00b"}, r"model 'a\x00b': "),
        ({"cursor": "first"}, "cursor 'first': is none that an answer gave"),
        ({"cursor": "MjAyNg=="}, "cursor 'MjAyNg==': is none that an answer gave"),
        ({"cursor": "é"}, "cursor 'é': is none that an answer gave"),
    ],
)
def test_a_page_that_there_is_not_is_422(
    scripted_client: TestClient, params: dict[str, str], message: str
) -> None:
    answer = scripted_client.get("/generations", params=params)
    assert error_of(answer, 422, "invalid_request").startswith(message)


def test_an_id_that_is_none_is_404(kept: Settings) -> None:
    """PostgreSQL refuses a NUL in a text."""
    with scripted_service(kept) as (client, _):
        for wrong in ("%00", "a%00b", "x" * 5000, "..%2F..", "é"):
            error_of(client.get(f"/generations/{wrong}"), 404, "not_found")


def test_use_is_counted_by_model_and_outlives_the_generations(kept: Settings) -> None:
    with scripted_service(kept) as (client, scripted):
        draw(client, scripted, n=2)
        path = draw(client, scripted)
        draw(client, scripted, model="rex")
        client.delete(path)
        start(client)
    with scripted_service(kept) as (client, _):
        usage = client.get("/usage").json()
    counted = [
        (use["model"], use["generations"], use["images"], use["seconds"]) for use in usage["models"]
    ]
    assert counted == [("tiny", 2, 3, 1.5), ("rex", 1, 1, 0.5)]
    assert usage["client"]["role"] == "admin"


def test_a_removed_generation_takes_its_own_pictures_along(kept: Settings) -> None:
    with scripted_service(kept) as (client, scripted):
        path = draw(client, scripted, n=2)
        urls = [image["url"] for image in client.get(path).json()["answer"]["images"]]
        assert client.delete(path).status_code == 204
        gone = [client.get(each).status_code for each in (path, *urls, f"{path}/events")]
        assert gone == [404] * 4
        assert client.delete(path).status_code == 404
        assert client.get("/generations").json()["generations"] == []
        assert list((kept.home / "images").iterdir()) == []


def test_a_picture_that_two_generations_made_stays_for_the_other(kept: Settings) -> None:
    with scripted_service(kept) as (client, scripted):
        paths = []
        for _ in range(2):
            paths.append(start(client))
            scripted.emit(len(paths) - 1, Started)
        for number in range(2):
            finish_alike(scripted, number)
            state_once(client, paths[number], "finished")
        ids = {client.get(path).json()["answer"]["images"][0]["id"] for path in paths}
        [picture_id] = ids
        client.delete(paths[0])
        assert client.get(f"/images/{picture_id}").status_code == 200
        client.delete(paths[1])
        assert client.get(f"/images/{picture_id}").status_code == 404


def finish_alike(scripted: ScriptedEngine, number: int) -> None:
    """End the `number`th request with the picture that all end with."""
    image = GeneratedImage(Image.new("RGB", (32, 32), "red"), 7, 0.5)
    scripted.emit(number, Finished, images=(image,), request=scripted.handle(0).request)


def test_a_removed_picture_leaves_the_answers(kept: Settings) -> None:
    with scripted_service(kept) as (client, scripted):
        path = draw(client, scripted, n=2)
        first, second = client.get(path).json()["answer"]["images"]
        assert client.delete(first["url"]).status_code == 204
        assert client.get(path).json()["answer"]["images"] == [second]
        assert client.get(first["url"]).status_code == 404
        assert client.delete(first["url"]).status_code == 404
    with scripted_service(kept) as (client, _):
        assert client.get(path).json()["answer"]["images"] == [second]


def test_a_start_picture_is_not_kept(kept: Settings) -> None:
    sent = data_url(file_of(Image.new("RGB", (64, 64), "blue")))
    with scripted_service(kept) as (client, scripted):
        draw(client, scripted, init_image=sent, strength=0.5)
        draw(client, scripted)
    database = open_database(kept.database_url, kept.home)
    with database.read() as session:
        first, second = session.scalars(select(GenerationRow).order_by(GenerationRow.created))
    database.close()
    assert first.request["init_image"].startswith("sha256:")
    assert second.request == DOG


def test_an_end_that_cannot_be_written_is_an_error_and_leaves_no_picture_behind(
    kept: Settings,
) -> None:
    with scripted_service(kept) as (client, scripted):
        call = in_background(client.post, "/generate", json=DOG)
        scripted.handle(0)
        database = open_database(kept.database_url, kept.home)
        with database.write() as session:
            session.execute(text("ALTER TABLE generations RENAME TO hidden"))
        scripted.finish(0)
        error_of(call.result(60), 500, "internal")
        with database.write() as session:
            session.execute(text("ALTER TABLE hidden RENAME TO generations"))
        path = f"/generations/{scripted.handle(0).id}"
        assert client.get(path).json()["error"]["code"] == "internal"
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(ImageRow)) == 0
    database.close()
    with scripted_service(kept) as (client, _):
        assert client.get(path).json()["error"]["code"] == "interrupted"

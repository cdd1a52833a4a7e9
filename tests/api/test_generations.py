"""Generations that clients ask about, share and cancel."""

import threading
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.main import create_app
from models.engine import LocalEngine
from models.requests import Failed, Started, Step
from tests.api.conftest import make_settings
from tests.api.scripted import ScriptedEngine
from tests.api.test_errors import error_of
from tests.api.waiting import DOG, in_background, start, state_once, wait_until

LONG = {"prompt": "a dog that takes its time", "steps": 150, "n": 8}


def test_what_runs_in_the_background_ends_with_the_answer_of_generate(client: TestClient) -> None:
    path = start(client)
    ended = state_once(client, path, "finished", "failed")
    answer = ended["answer"]
    assert (ended["state"], ended["error"], ended["position"]) == ("finished", None, None)
    assert path == f"/generations/{ended['id']}" == f"/generations/{answer['id']}"
    assert ended["step"] == ended["steps"] == 2
    assert ended["created"] <= ended["started"] <= ended["ended"]
    waited = client.post("/generate", json=DOG).json()
    assert set(answer) == set(waited)
    assert answer["parameters"] == waited["parameters"]
    assert answer["images"][0]["seed"] == 7
    assert client.get(answer["images"][0]["url"]).headers["content-type"] == "image/png"


@pytest.mark.parametrize("prefer", ["respond-async", "wait=10, Respond-Async; foo=1"])
def test_generate_answers_202_to_who_prefers_it(scripted_client: TestClient, prefer: str) -> None:
    answer = scripted_client.post("/generate", json=DOG, headers={"Prefer": prefer})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.headers["location"] == f"/generations/{answer.json()['id']}"
    assert (answer.json()["state"], answer.json()["position"]) == ("queued", 0)


def test_another_preference_is_answered_at_once_as_ever(client: TestClient) -> None:
    answer = client.post("/generate", json=DOG, headers={"Prefer": "return=minimal"})
    assert answer.status_code == 200
    assert "preference-applied" not in answer.headers


def test_the_state_follows_the_engine(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    first, second = start(scripted_client), start(scripted_client)
    assert scripted_client.get(second).json()["position"] == 1
    scripted.emit(0, Started)
    running = state_once(scripted_client, first, "running")
    assert (running["step"], running["steps"], running["ended"]) == (None, None, None)
    scripted.emit(0, Step, step=3, steps=25)
    wait_until(lambda: scripted_client.get(first).json()["step"] == 3)
    assert scripted_client.get(first).json()["steps"] == 25
    scripted.emit(0, Failed, code="not_finite", message="the latents left the range")
    failed = state_once(scripted_client, first, "failed")
    assert failed["error"] == {"code": "not_finite", "message": "the latents left the range"}
    assert failed["answer"] is None
    queued = scripted_client.get(second).json()
    assert (queued["state"], queued["position"]) == ("queued", 0)


def test_pictures_are_stored_though_nobody_asks(
    tmp_path: Path, scripted: ScriptedEngine, shared_home: Path
) -> None:
    (tmp_path / "models").symlink_to(shared_home / "models")
    with TestClient(create_app(make_settings(tmp_path), scripted)) as client:
        client.post("/generations", json={**DOG, "n": 3, "format": "webp"})
        scripted.finish(0)
        wait_until(lambda: len(list((tmp_path / "images").glob("*.webp"))) == 3)


def test_what_nobody_knows_is_404(scripted_client: TestClient) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
        answer = scripted_client.request(method, f"/generations/{'0' * 32}{path}")
        assert error_of(answer, 404, "not_found") == f"no generation has the id '{'0' * 32}'"


def test_a_generation_is_cancelled_between_two_steps(own_app: FastAPI, engine: LocalEngine) -> None:
    with TestClient(own_app) as client:
        path = start(client, LONG)
        wait_until(lambda: client.get(path).json()["step"])
        assert client.delete(path).status_code == 204
        cancelled = state_once(client, path, "cancelled", "finished")
        assert cancelled["state"] == "cancelled"
        assert cancelled["step"] < cancelled["steps"]
        wait_until(lambda: engine.describe().running == 0)
        again = client.delete(path)
        assert (again.status_code, again.content) == (204, b"")
        assert client.get(path).status_code == 404


def test_who_waits_for_what_another_client_cancels_is_answered_409(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    headers = {"Idempotency-Key": "mine"}
    waiting = in_background(scripted_client.post, "/generate", json=DOG, headers=headers)
    scripted.handle(0)
    path = start(scripted_client, Idempotency_Key="mine")
    scripted_client.delete(path)
    error_of(waiting.result(60), 409, "generation_cancelled")


# Clients that leave.


def hang_up(address: str, **headers: str) -> None:
    """Ask for a picture and leave before it is there."""
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{address}/generate", json=DOG, headers=headers, timeout=1.0)


def test_who_leaves_cancels_what_nobody_else_waits_for(
    scripted_address: str, scripted: ScriptedEngine
) -> None:
    hang_up(scripted_address)
    wait_until(lambda: scripted.cancelled(0))


def test_who_leaves_does_not_cancel_what_another_client_waits_for(
    scripted_address: str, scripted: ScriptedEngine
) -> None:
    key = {"Idempotency-Key": "k-1"}
    stays = in_background(
        httpx.post, f"{scripted_address}/generate", json=DOG, headers=key, timeout=60
    )
    scripted.handle(0)
    hang_up(scripted_address, **key)
    hang_up(scripted_address)
    wait_until(lambda: scripted.cancelled(1))  # so the first one's leaving has been seen as well
    assert not scripted.cancelled(0)
    scripted.finish(0)
    assert stays.result(60).status_code == 200


def test_who_leaves_does_not_cancel_what_was_started_in_the_background(
    scripted_address: str, scripted: ScriptedEngine
) -> None:
    key = {"Idempotency-Key": "k-1"}
    httpx.post(f"{scripted_address}/generations", json=DOG, headers=key)
    hang_up(scripted_address, **key)
    hang_up(scripted_address)
    wait_until(lambda: scripted.cancelled(1))
    assert not scripted.cancelled(0)


# Bounds and ends.


def test_what_ended_long_ago_is_known_with_its_key(
    scripted_client: TestClient, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.generations.RECENT", 1)
    ended = []
    for index in range(3):
        ended.append(start(scripted_client, Idempotency_Key=f"k-{index}"))
        scripted.finish(index)
        state_once(scripted_client, ended[-1], "finished")
    answers = [scripted_client.get(path).json() for path in ended]
    assert [answer["state"] for answer in answers] == ["finished"] * 3
    assert start(scripted_client, Idempotency_Key="k-0") == ended[0]
    assert len(scripted.handles) == 3


def test_what_was_answered_at_once_is_known_too(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    call = in_background(scripted_client.post, "/generate", json=DOG)
    path = f"/generations/{scripted.handle(0).id}"
    assert state_once(scripted_client, path, "queued")
    scripted.finish(0)
    answer = call.result(60).json()
    assert scripted_client.get(path).json()["answer"] == answer


def test_a_silent_engine_is_given_up(
    scripted_client: TestClient, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.generations.GRACE", 0.1)
    monkeypatch.setattr("api.generations.PATIENCE", 0.05)
    scripted.obeys_cancel = False
    answer = scripted_client.post("/generate", json={**DOG, "timeout": 0.1})
    assert error_of(answer, 504, "timeout") == "not done within 0.1 seconds"
    assert scripted.cancelled(0)


def test_the_end_of_the_service_lets_what_runs_finish(
    tmp_path: Path, scripted: ScriptedEngine, shared_home: Path
) -> None:
    (tmp_path / "models").symlink_to(shared_home / "models")
    with TestClient(create_app(make_settings(tmp_path), scripted)) as client:
        start(client)
        finishing = threading.Timer(0.5, scripted.finish, [0])
        finishing.start()
    assert not scripted.cancelled(0)
    assert len(list((tmp_path / "images").iterdir())) == 1


@pytest.mark.parametrize("obeys_cancel", [True, False])
def test_the_end_of_the_service_cancels_the_rest_and_leaves_no_thread(
    scripted_app: FastAPI,
    scripted: ScriptedEngine,
    monkeypatch: pytest.MonkeyPatch,
    obeys_cancel: bool,
) -> None:
    monkeypatch.setattr("api.generations.LAST_CALL", 0.1)
    scripted.obeys_cancel = obeys_cancel
    before = set(threading.enumerate())
    with TestClient(scripted_app) as client:
        for _ in range(3):
            start(client)
    assert all(scripted.cancelled(index) for index in range(3))
    wait_until(lambda: set(threading.enumerate()) <= before, seconds=10)

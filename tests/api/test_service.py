"""The service on a real socket: what it does while a picture is being made."""

import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.main import create_app
from models.engine import LocalEngine
from tests.api.conftest import make_settings, serve
from tests.api.waiting import wait_until

LONG = {"prompt": "a dog that takes its time", "steps": 150, "n": 8}


def draw_in_background(address: str) -> threading.Thread:
    def draw() -> None:
        with suppress(httpx.HTTPError):
            httpx.post(f"{address}/generate", json=LONG, timeout=60)

    thread = threading.Thread(target=draw)
    thread.start()
    return thread


def test_the_service_answers_while_a_picture_is_made(address: str, engine: LocalEngine) -> None:
    drawing = draw_in_background(address)
    wait_until(lambda: engine.describe().running == 1)
    for path in ("/healthz", "/models", "/breeds", "/docs"):
        answer = httpx.get(address + path, timeout=5)
        assert answer.status_code == 200
    assert engine.describe().running == 1
    engine.close()
    drawing.join(30)


def test_a_server_that_is_stopped_cancels_what_runs(own_app: FastAPI, engine: LocalEngine) -> None:
    with serve(own_app) as address:
        drawing = draw_in_background(address)
        wait_until(lambda: engine.describe().running == 1)
    wait_until(lambda: engine.describe().running == 0, seconds=5.0)
    drawing.join(30)


def test_a_client_that_hangs_up_cancels_its_request(address: str, engine: LocalEngine) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{address}/generate", json=LONG, timeout=0.3)
    wait_until(lambda: engine.describe().running == 0, seconds=3.0)
    answer = httpx.post(f"{address}/generate", json={"prompt": "a dog"}, timeout=30)
    assert answer.status_code == 200


def test_health_is_alive_at_once_and_ready_once_a_model_is_in_memory(
    own_app: FastAPI, engine: LocalEngine
) -> None:
    with TestClient(own_app) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json()["error"]["code"] == "not_ready"
        engine.warm_up("tiny")
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/readyz").json() == {
            "device": "cpu",
            "dtype": "float32",
            "queued": 0,
            "running": 0,
            "queue_limit": 1,
            "resident": ["tiny"],
            "restarts": 0,
        }


def test_the_service_starts_its_own_engine_and_warms_it_up(tmp_path: Path, catalog) -> None:
    with TestClient(create_app(make_settings(tmp_path))) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/readyz").json()["resident"] == ["tiny"]


def test_settings_come_from_the_environment(
    tmp_path: Path, catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    monkeypatch.setenv("DOGBOOTH_DEFAULT_MODEL", "rex")
    monkeypatch.setenv("DOGBOOTH_QUEUE_LIMIT", "3")
    with TestClient(create_app()) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        status = client.get("/readyz").json()
    assert ("rex" in status["resident"], status["queue_limit"]) == (True, 3)


def test_readiness_tells_of_an_engine_that_was_replaced(scripted_client: TestClient) -> None:
    assert scripted_client.get("/readyz").json()["restarts"] == 2

"""One line a request, as JSON or for people, with the id that the answer carries."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.logs import HANDLER, configure_logs
from tests.api.conftest import make_settings, scripted_service
from tests.api.scripted import ScriptedEngine
from tests.api.waiting import DOG


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    yield
    root = logging.getLogger()
    for handler in [each for each in root.handlers if each.get_name() == HANDLER]:
        root.removeHandler(handler)


@pytest.fixture
def logged(
    shared_home: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[tuple[TestClient, ScriptedEngine]]:
    settings = make_settings(shared_home, log_format="json")
    with scripted_service(settings) as service:
        capsys.readouterr()
        yield service


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_every_request_is_one_line_of_json_with_its_id(
    logged: tuple[TestClient, ScriptedEngine], capsys: pytest.CaptureFixture[str]
) -> None:
    client, _ = logged
    client.get("/breeds", headers={"X-Request-ID": "build-7"})
    client.get("/nothing?secret=1", headers={"X-Request-ID": "build-8"})
    first, second = [line for line in lines(capsys) if line["event"] == "request"]
    assert {name: first[name] for name in ("request_id", "method", "path", "status", "client")} == {
        "request_id": "build-7",
        "method": "GET",
        "path": "/breeds",
        "status": 200,
        "client": "testclient",
    }
    assert first["seconds"] >= 0 and first["timestamp"].endswith("Z")
    assert (second["request_id"], second["status"], second["path"]) == ("build-8", 404, "/nothing")


def test_what_machines_ask_all_the_time_is_not_logged(
    logged: tuple[TestClient, ScriptedEngine], capsys: pytest.CaptureFixture[str]
) -> None:
    logged[0].get("/healthz")
    assert lines(capsys) == []


def test_what_is_logged_while_a_request_is_served_has_its_id(
    logged: tuple[TestClient, ScriptedEngine],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also in a thread, and by the standard library's own loggers."""
    client, scripted = logged

    def submit(request: object) -> None:
        logging.getLogger("models.engine").warning("odd: %s", 7)
        raise ValueError("not expected")

    monkeypatch.setattr(scripted, "submit", submit)
    with pytest.raises(ValueError, match="not expected"):
        client.post("/generate", json=DOG, headers={"X-Request-ID": "build-9"})
    by_event = {line["event"]: line for line in lines(capsys)}
    assert by_event["odd: 7"]["request_id"] == "build-9"
    assert by_event["odd: 7"]["level"] == "warning"
    assert by_event["request"]["status"] in (0, 500)


def test_a_background_generation_logs_under_the_request_that_began_it(
    logged: tuple[TestClient, ScriptedEngine],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, _ = logged
    monkeypatch.setattr("api.generations.tell", lambda *args: 1 / 0)
    answer = client.post("/generate", json=DOG, headers={"X-Request-ID": "build-10"})
    assert answer.status_code == 500
    [failure] = [line for line in lines(capsys) if line["level"] == "error"]
    assert failure["request_id"] == "build-10"
    assert "ZeroDivisionError" in failure["exception"]


def test_logs_for_people_are_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("console", "warning")
    logging.getLogger("api.routes").info("too little")
    logging.getLogger("api.routes").warning("enough")
    said = capsys.readouterr().err
    assert "enough" in said and "too little" not in said


def test_starting_twice_logs_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        configure_logs("json", "info")
    logging.getLogger("api").info("once")
    assert len(lines(capsys)) == 1

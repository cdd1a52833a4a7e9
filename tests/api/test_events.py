"""The stream of a generation's events, on real connections where that matters."""

import asyncio
import base64
import io
import json
import threading
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from api.events import PREVIEW_SIDE
from api.generation import Generation
from models.requests import Cancelled, Failed, Preview, Started, Step
from tests.api.scripted import ScriptedEngine
from tests.api.test_errors import error_of
from tests.api.waiting import DOG, in_background, start, wait_until


@dataclass(frozen=True)
class Told:
    """An event as an EventSource reads it."""

    id: int
    name: str
    data: Any


def parse(lines: Iterable[str]) -> list[Told]:
    """The events of a stream's lines, comments left out."""
    events, fields = [], {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            events.append(Told(int(fields["id"]), fields["event"], json.loads(fields["data"])))
            fields = {}
    assert not fields, "a stream ends between two events"
    return events


def listen(client: TestClient, path: str, **headers: str) -> list[Told]:
    answer = client.get(f"{path}/events", headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    return parse(answer.text.splitlines())


def preview(colour: str, index: int = 0, step: int = 1, side: int = 32) -> dict[str, Any]:
    return {"index": index, "step": step, "image": Image.new("RGB", (side, side), colour)}


def test_a_stream_tells_of_every_step_and_ends_with_the_answer(client: TestClient) -> None:
    path = start(client, {**DOG, "steps": 3, "preview_every": 1})
    events = listen(client, path)
    names = [event.name for event in events]
    assert names[0] == "queued" and names[1] == "started" and names[-1] == "finished"
    assert [event.data for event in events if event.name == "step"] == [
        {"step": step, "steps": 3} for step in (1, 2, 3)
    ]
    assert [event.id for event in events] == sorted({event.id for event in events})
    [image] = events[-1].data["images"]
    assert client.get(image["url"]).status_code == 200
    assert events[-1].data == client.get(path).json()["answer"]


def test_a_preview_is_a_small_jpeg_of_one_picture(
    scripted_address: str, scripted: ScriptedEngine
) -> None:
    path = httpx.post(f"{scripted_address}/generations", json=DOG).headers["location"]
    scripted.emit(0, Preview, **preview("red", index=1, step=2, side=600))
    with httpx.stream("GET", f"{scripted_address}{path}/events", timeout=60) as stream:
        lines = stream.iter_lines()
        while next(lines) != "event: preview":
            pass
        data = json.loads(next(lines).removeprefix("data: "))
        scripted.emit(0, Cancelled)
    assert (data["index"], data["step"]) == (1, 2)
    head, _, payload = data["image"].partition(",")
    assert head == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(payload)))
    assert (image.format, image.size) == ("JPEG", (PREVIEW_SIDE, PREVIEW_SIDE))


def test_the_engine_shows_what_it_draws(address: str) -> None:
    long = {**DOG, "steps": 150, "n": 8, "preview_every": 1}
    path = httpx.post(f"{address}/generations", json=long).headers["location"]
    with httpx.stream("GET", f"{address}{path}/events", timeout=60) as stream:
        lines = stream.iter_lines()
        while next(lines) != "event: preview":
            pass
        assert "data:image/jpeg;base64," in next(lines)
        assert httpx.delete(f"{address}{path}").status_code == 204
        assert "event: cancelled" in list(lines)


@pytest.mark.parametrize(
    ("kind", "fields", "name", "data"),
    [
        (Cancelled, {}, "cancelled", {}),
        (
            Failed,
            {"code": "out_of_memory", "message": "too large"},
            "failed",
            {"code": "out_of_memory", "message": "too large"},
        ),
    ],
)
def test_a_stream_ends_with_what_became_of_it(
    scripted_client: TestClient,
    scripted: ScriptedEngine,
    kind: Any,
    fields: dict[str, str],
    name: str,
    data: dict[str, str],
) -> None:
    path = start(scripted_client)
    call = in_background(listen, scripted_client, path)
    scripted.emit(0, kind, **fields)
    assert call.result(60) == [Told(0, "queued", {"position": 0}), Told(1, name, data)]


def test_who_comes_back_gets_what_was_missed(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    path = start(scripted_client)
    scripted.emit(0, Started)
    for step in (1, 2):
        scripted.emit(0, Step, step=step, steps=2)
    scripted.emit(0, Failed, code="not_finite", message="too large numbers")
    wait_until(lambda: scripted_client.get(path).json()["state"] == "failed")
    everything = listen(scripted_client, path)
    assert [event.id for event in everything] == [0, 1, 2, 3, 4]
    assert listen(scripted_client, path, **{"Last-Event-ID": "2"}) == everything[3:]


def test_a_browser_that_has_everything_is_told_to_stop_coming_back(
    scripted_address: str, scripted: ScriptedEngine
) -> None:
    """An EventSource connects again after each end until it is answered 204."""
    path = httpx.post(f"{scripted_address}/generations", json=DOG).headers["location"]
    scripted.emit(0, Cancelled)
    url = f"{scripted_address}{path}/events"
    assert httpx.get(url).status_code == 200
    answer = httpx.get(url, headers={"Last-Event-ID": "1"})
    assert (answer.status_code, answer.content) == (204, b"")


def test_an_event_id_that_is_none_is_422(scripted_client: TestClient) -> None:
    path = start(scripted_client)
    answer = scripted_client.get(f"{path}/events", headers={"Last-Event-ID": "last"})
    assert error_of(answer, 422, "invalid_request").startswith("Last-Event-ID 'last': ")


def test_of_previews_only_the_newest_of_each_picture_is_kept(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    """They are large: a long request of eight pictures would hold megabytes."""
    path = start(scripted_client)
    scripted.emit(0, Started)
    for step in (1, 2):
        for index in (0, 1):
            scripted.emit(0, Preview, **preview("red", index, step))
    scripted.emit(0, Step, step=2, steps=2)
    wait_until(lambda: scripted_client.get(path).json()["step"] == 2)
    service = scripted_client.app_state["service"]
    generation = scripted_client.portal.call(service.generations.find, path.split("/")[-1])
    kept = [event.data for event in generation.events if event.name == "preview"]
    assert [(data.index, data.step) for data in kept] == [(0, 2), (1, 2)]
    scripted.emit(0, Cancelled)
    wait_until(lambda: scripted_client.get(path).json()["state"] == "cancelled")
    names = [event.name for event in listen(scripted_client, path)]
    assert names == ["queued", "started", "step", "cancelled"]


def test_events_come_when_they_happen_and_comments_in_between(
    scripted_address: str, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.05)
    path = httpx.post(f"{scripted_address}/generations", json=DOG).headers["location"]
    with httpx.stream("GET", f"{scripted_address}{path}/events", timeout=60) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: queued"
        while not next(lines).startswith(":"):
            pass
        scripted.emit(0, Started)
        while next(lines) != "event: started":
            pass
        scripted.emit(0, Cancelled)
        assert "event: cancelled" in list(lines)


def test_many_listeners_take_no_thread_and_leave_nothing(
    scripted_address: str, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening: set[int] = set()
    follow = Generation.follow

    async def counted(self: Generation, after: int = -1) -> AsyncIterator[Any]:
        listening.add(id(me := object()))
        try:
            async for event in follow(self, after):
                yield event
        finally:
            listening.remove(id(me))

    monkeypatch.setattr(Generation, "follow", counted)
    path = httpx.post(f"{scripted_address}/generations", json=DOG).headers["location"]
    httpx.get(f"{scripted_address}/models")
    before = threading.active_count()

    async def many_listen() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:

            async def one() -> None:
                async with client.stream("GET", f"{scripted_address}{path}/events") as stream:
                    async for _ in stream.aiter_lines():
                        pass

            tasks = [asyncio.create_task(one()) for _ in range(60)]
            while len(listening) < 60:
                await asyncio.sleep(0.02)
            assert (await client.get(f"{scripted_address}/models")).status_code == 200
            assert threading.active_count() <= before + 5  # four that look up keys
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(asyncio.wait_for(many_listen(), 120))
    wait_until(lambda: not listening)
    assert httpx.get(f"{scripted_address}{path}").json()["state"] == "queued"

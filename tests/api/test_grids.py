import io
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from api.grids import AT_ONCE
from models.errors import QueueFull
from models.requests import Failed
from tests.api.scripted import ScriptedEngine
from tests.api.test_events import listen
from tests.api.waiting import state_once, wait_until

STEPS = {"name": "steps", "values": [1, 2]}
SCHEDULERS = {"name": "scheduler", "values": ["ddim", "euler"]}
GRID: dict[str, Any] = {"prompt": "a dog", "x": STEPS, "y": SCHEDULERS}


def start(client: TestClient, body: dict[str, Any] = GRID) -> str:
    answer = client.post("/grids", json=body)
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def test_a_grid_draws_every_cell_as_a_generation_and_joins_them(client: TestClient) -> None:
    state = state_once(client, start(client), "finished")
    assert state["columns"] == ["Steps: 1", "Steps: 2"]
    assert state["rows"] == ["Sampler: DDIM", "Sampler: Euler"]
    assert state["finished"] == state["cells"] == 4
    cells = [client.get(f"/generations/{each}").json()["answer"] for each in state["generations"]]
    settings = [(c["parameters"]["steps"], c["parameters"]["scheduler"]) for c in cells]
    assert settings == [(1, "ddim"), (2, "ddim"), (1, "euler"), (2, "euler")]
    assert len({cell["images"][0]["seed"] for cell in cells}) == 1
    picture = Image.open(io.BytesIO(client.get(state["picture"]["url"]).content))
    one = Image.open(io.BytesIO(client.get(cells[0]["images"][0]["url"]).content))
    places = ((x, y) for x in range(100, 150) for y in range(50))
    assert any(picture.crop((x, y, x + 32, y + 32)).tobytes() == one.tobytes() for x, y in places)


def test_events_tell_of_each_cell_and_of_the_picture(client: TestClient) -> None:
    path = start(client, {"prompt": "a dog", "x": {"name": "seed", "values": [1, 2.0]}})
    text = client.get(f"{path}/events").text
    names = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("event")]
    assert names == ["queued", "cell", "cell", "finished"]
    assert client.get(path).json()["picture"]["url"] in text
    assert client.get(path).json()["rows"] == []


def test_who_comes_back_to_a_grid_gets_what_was_missed(client: TestClient) -> None:
    path = start(client, {"prompt": "a dog", "x": {"name": "seed", "values": [1, 2]}})
    state_once(client, path, "finished")
    everything = listen(client, path)
    assert listen(client, path, **{"Last-Event-ID": "1"}) == everything[2:]
    last = {"Last-Event-ID": str(everything[-1].id)}
    assert client.get(f"{path}/events", headers=last).status_code == 204


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"y": {"name": "scheduler", "values": ["magic"]}}, "scheduler 'magic'"),
        ({"y": STEPS}, "axes: both are steps"),
        ({"x": {"name": "width", "values": [32]}}, "Input tag 'width' found using 'name'"),
        ({"x": {"name": "steps", "values": ["many"]}}, "x.steps.values.0 'many': "),
        ({"x": {"name": "steps", "values": [1, 1000]}}, "x.steps.values.1 1000: "),
        ({"x": {"name": "steps", "values": []}}, "x.steps.values []: "),
        ({"x": {"name": "seed", "values": [2.5]}}, "x.seed.values.0 2.5: "),
        ({"x": {"name": "guidance_scale", "values": ["4"]}}, "x.guidance_scale.values.0 '4': "),
        ({"x": {"name": "prompt", "values": [" "]}}, "x.prompt.values.0 ' ': "),
        ({"x": {"name": "model", "values": [7]}}, "x.model.values.0 7: "),
        ({"x": {"name": "seed", "values": list(range(51))}}, "axes: 102 cells, must be at most"),
    ],
)
def test_a_bad_grid_is_refused_before_anything_is_drawn(
    client: TestClient, changed: dict[str, Any], reason: str
) -> None:
    before = len(client.get("/generations?limit=100").json()["generations"])
    answer = client.post("/grids", json=GRID | changed)
    assert answer.status_code == 422
    assert reason in answer.json()["error"]["message"]
    assert len(client.get("/generations?limit=100").json()["generations"]) == before


def test_an_unknown_model_and_an_unknown_grid_are_404(client: TestClient) -> None:
    models = {"name": "model", "values": ["tiny", "nobody"]}
    assert client.post("/grids", json=GRID | {"x": models}).status_code == 404
    assert client.get("/grids/nothing").status_code == 404


def many(number: int) -> dict[str, Any]:
    return {"prompt": "a dog", "x": {"name": "seed", "values": list(range(number))}}


def test_a_large_grid_leaves_room_in_the_queue(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    path = start(scripted_client, many(AT_ONCE + 1))
    wait_until(lambda: len(scripted.handles) == AT_ONCE)
    scripted.finish(0)
    wait_until(lambda: len(scripted.handles) == AT_ONCE + 1)
    assert scripted_client.get(path).json()["state"] == "running"


def test_a_full_queue_refuses_a_new_grid_and_makes_a_begun_one_wait(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    path = start(scripted_client, many(AT_ONCE + 2))
    wait_until(lambda: len(scripted.handles) == AT_ONCE)
    scripted.refusal = QueueFull("full", retry_after=1)
    assert scripted_client.post("/grids", json=many(2)).status_code == 429
    scripted.finish(0)
    wait_until(lambda: scripted_client.get(path).json()["finished"] == 1)
    scripted.refusal = None
    scripted.finish(1)
    wait_until(lambda: len(scripted.handles) == AT_ONCE + 2)
    assert scripted_client.get(path).json()["state"] == "running"


def test_cancelling_a_grid_stops_its_cells(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    path = start(scripted_client, many(3))
    scripted.finish(0)
    wait_until(lambda: scripted_client.get(path).json()["finished"] == 1)
    wait_until(lambda: len(scripted.handles) == 3)
    assert scripted_client.delete(path).status_code == 204
    state = state_once(scripted_client, path, "cancelled")
    assert state["finished"] == 1
    assert scripted.cancelled(1) and scripted.cancelled(2)
    assert scripted_client.delete(path).status_code == 204
    assert scripted_client.get(path).status_code == 404


def test_a_cell_that_fails_ends_the_grid_and_its_other_cells(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    path = start(scripted_client, many(3))
    wait_until(lambda: len(scripted.handles) == 3)
    scripted.emit(1, Failed, code="not_finite", message="no numbers")
    state = state_once(scripted_client, path, "failed")
    assert state["error"] == {"code": "not_finite", "message": "no numbers"}
    wait_until(lambda: scripted.cancelled(0) and scripted.cancelled(2))

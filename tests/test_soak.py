"""A thousand requests of all kinds at once against a real server on a socket."""

import gc
import random
import threading
from pathlib import Path

import httpx

from api.main import create_app
from models.catalog import Catalog
from models.engine import LocalEngine
from models.handle import FINAL, LocalHandle
from models.requests import GenerationRequest
from models.schedulers import SCHEDULERS
from tests.api.conftest import make_settings, serve
from tests.memory import memory
from tests.tiny import publish_adapter, publish_base

REQUESTS = 1000
CLIENTS = 10


class RecordingEngine(LocalEngine):
    """An engine that remembers what was submitted to it."""

    def __init__(self, catalog: Catalog, **options: object) -> None:
        self.handles: list[LocalHandle] = []
        super().__init__(catalog, **options)  # type: ignore[arg-type]

    def submit(self, request: GenerationRequest) -> LocalHandle:
        handle = super().submit(request)
        self.handles.append(handle)
        return handle


def one_request(client: httpx.Client, dice: random.Random) -> str:
    """Send a random request, now and then leave or cancel it; what became of it."""
    body = {
        "prompt": dice.choice(["a dog", "un perro", "a (small:1.2) dog", "a dog " * 8]),
        "model": dice.choice(["tiny", "rex", "max", "other"]),
        "steps": dice.randint(1, 6),
        "scheduler": dice.choice([*SCHEDULERS]),
        "guidance_scale": dice.choice([1.0, 4.0]),
        "n": dice.choice([1, 1, 2]),
        "preview_every": dice.choice([0, 0, 2]),
        "seed": dice.randrange(1000),
    }
    kind = dice.random()
    if kind < 0.15:  # hangs up
        try:
            client.post("/generate", json=body, timeout=dice.uniform(0.001, 0.05))
        except httpx.TimeoutException:
            return "left"
        return "answered"
    if kind < 0.3:  # cancels
        accepted = client.post("/generations", json=body)
        if accepted.status_code == 202:
            client.delete(accepted.headers["Location"]).raise_for_status()
            return "cancelled"
        return str(accepted.status_code)
    if kind < 0.4:  # listens
        accepted = client.post("/generations", json=body)
        if accepted.status_code == 202:
            heard = client.get(accepted.headers["Location"] + "/events")
            return "heard" if "event: finished" in heard.text else heard.text
        return str(accepted.status_code)
    answer = client.post("/generate", json=body)
    return "answered" if answer.status_code == 200 else str(answer.status_code)


def test_a_thousand_mixed_requests_all_end_and_leave_nothing_behind(
    catalog: Catalog, tmp_path: Path
) -> None:
    publish_adapter(catalog, "max")
    publish_base(catalog, "other", seed=2)
    before = set(threading.enumerate())
    engine = RecordingEngine(catalog, device="cpu", dtype="fp32", threads=1)
    outcomes: list[str] = []
    sizes: list[int] = []

    def client(number: int) -> None:
        dice = random.Random(number)
        with httpx.Client(base_url=address, timeout=120) as http:
            for _ in range(REQUESTS // CLIENTS):
                outcomes.append(one_request(http, dice))
                sizes.append(memory())

    with serve(create_app(make_settings(tmp_path), engine)) as address:
        threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    engine.close()

    assert len(outcomes) == REQUESTS
    assert set(outcomes) <= {"answered", "left", "cancelled", "heard"}
    assert len(set(outcomes)) == 4, "one kind of request never came"
    assert len(engine.handles) > 0.9 * REQUESTS
    assert all(isinstance(list(handle.events())[-1], FINAL) for handle in engine.handles)
    assert engine.describe().running == engine.describe().queued == 0
    half = len(sizes) // 2
    assert max(sizes[half:]) <= 1.05 * max(sizes[:half])
    gc.collect()
    left = {thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()}
    assert not {name for name in left if "AnyIO" not in name}

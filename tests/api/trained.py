"""Asks a service for trainings that take seconds, on a tiny base."""

import io
import json
from functools import cache
from typing import Any

from fastapi.testclient import TestClient

from tests.api.waiting import wait_until
from tests.training.conftest import draw_dog

FAST = {
    "rank": 2,
    "steps": 4,
    "batch_size": 1,
    "class_images": 1,
    "crops_per_photo": 1,
    "validate_every": 0,
    "sample_every": 2,
    "sample_images": 1,
    "early_stop": 0,
    "mixed_precision": "no",
    "learning_rate": 1e-2,
}
ENDED = ("succeeded", "failed", "cancelled")


@cache
def photo(seed: int, side: int = 96) -> bytes:
    """A PNG of a drawn dog."""
    file = io.BytesIO()
    draw_dog(seed, side).save(file, "PNG")
    return file.getvalue()


def form(name: str = "fido", photos: int = 3, **fields: Any) -> dict[str, Any]:
    """What `POST /trainings` takes, for httpx."""
    settings = FAST | fields.pop("settings", {})
    return {
        "data": {"name": name, "base": "tiny", "settings": json.dumps(settings), **fields},
        "files": [("photos", (f"{n}.png", photo(n), "image/png")) for n in range(photos)],
    }


def train(client: TestClient, name: str = "fido", **fields: Any) -> str:
    """Queue a training and give its path."""
    answer = client.post("/trainings", **form(name, **fields))
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def training_once(client: TestClient, path: str, *states: str) -> dict[str, Any]:
    """The training as soon as it is in one of `states`; fails where it ends in another."""
    found: dict[str, Any] = {}

    def there() -> bool:
        found.update(client.get(path).json())
        assert found["state"] in states or found["state"] not in ENDED, found
        return found["state"] in states

    wait_until(there, 300)  # runs are behind all else in priority
    return found


def events(client: TestClient, path: str, **headers: str) -> list[tuple[int, str, dict[str, Any]]]:
    """All of its stream."""
    answer = client.get(f"{path}/events", headers=headers)
    assert answer.status_code in (200, 204), answer.text
    found = []
    for block in answer.text.strip().split("\n\n"):
        parts = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in parts:
            found.append((int(parts["id"]), parts["event"], json.loads(parts["data"])))
    return found

"""Asks and waits in tests: for a condition, a state, a request in a thread of its own."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from fastapi.testclient import TestClient

DOG = {"prompt": "a dog", "seed": 7}


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def in_background(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
    """Run `call` in a thread; its result or its error is the future's."""
    executor = ThreadPoolExecutor(1)
    future = executor.submit(call, *args, **kwargs)
    executor.shutdown(wait=False)
    return future


def start(client: TestClient, body: dict[str, Any] = DOG, **headers: str) -> str:
    """Begin a generation in the background and give its path."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = client.post("/generations", json=body, headers=names)
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def state_once(client: TestClient, path: str, *states: str) -> dict[str, Any]:
    """The state of a generation as soon as it is one of `states`."""
    wait_until(lambda: client.get(path).json()["state"] in states)
    return client.get(path).json()

"""Clients: threads that ask for pictures and note how long each took."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from benchmarks.servers import PNG

Body = dict[str, Any]
PROMPTS = (
    "a photo of a golden retriever",
    "a photo of a pug",
    "un perro san bernardo",
    "a photo of a beagle",
    "a photo of a Siberian husky",
    "una foto de un samoyedo",
)


def body(model: str, steps: int, number: int, guidance_scale: float = 4.0) -> Body:
    """A request like another client's: prompt and seed differ by `number`."""
    return {
        "prompt": PROMPTS[number % len(PROMPTS)],
        "model": model,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "seed": number,
    }


def ask(client: httpx.Client, address: str, request: Body) -> float:
    """Seconds that one picture took."""
    started = time.perf_counter()
    answer = client.post(f"{address}/generate", json=request, headers=PNG)
    answer.raise_for_status()
    if not answer.content.startswith(b"\x89PNG"):
        raise ValueError("the answer is no PNG")
    return time.perf_counter() - started


def burst(address: str, requests: Sequence[Body]) -> tuple[list[float], float]:
    """All `requests` at once: the seconds of each, and of all."""
    latencies = [0.0] * len(requests)
    ready = threading.Barrier(len(requests) + 1)

    def one(index: int) -> None:
        with httpx.Client(timeout=900) as client:
            ready.wait()
            latencies[index] = ask(client, address, requests[index])

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(requests))]
    for thread in threads:
        thread.start()
    ready.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    return latencies, time.perf_counter() - started


def loops(
    address: str, clients: Sequence[Callable[[int], Body]], seconds: float
) -> list[list[float]]:
    """Each client asks again and again for `seconds`; the latencies of each, at least one."""
    ending = time.perf_counter() + seconds
    latencies: list[list[float]] = [[] for _ in clients]

    def loop(index: int) -> None:
        with httpx.Client(timeout=900) as client:
            while not latencies[index] or time.perf_counter() < ending:
                request = clients[index](len(latencies[index]))
                latencies[index].append(ask(client, address, request))

    threads = [threading.Thread(target=loop, args=(index,)) for index in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of `values` stay at or below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def shuffled(names: Sequence[str], seed: int) -> Callable[[int], str]:
    """Names at random, the same for both sides."""
    generator = random.Random(seed)
    return lambda _: generator.choice(names)

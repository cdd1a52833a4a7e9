"""Starts ours and the baseline as processes of their own, one at a time, on loopback."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from training.__main__ import ALLOCATOR

SIDES = ("ours", "baseline")
PNG = {"Accept": "image/png"}


@dataclass(frozen=True)
class Setting:
    """What both sides share."""

    base: Path
    """The folder of the base's pipeline."""
    home: Path
    """DOGBOOTH_HOME of our side; its `models` folder holds the adapters of both."""
    threads: int
    dtype: str = "bf16"


def environment(side: str, setting: Setting, adapters: bool) -> dict[str, str]:
    """The environment of one side's process."""
    names = {"bf16": "bfloat16", "fp32": "float32"}
    own = {
        "DOGBOOTH_HOME": str(setting.home),
        "DOGBOOTH_THREADS": str(setting.threads),
        "DOGBOOTH_DTYPE": setting.dtype,
        "DOGBOOTH_DEFAULT_MODEL": "dogbooth-base",
        "DOGBOOTH_QUEUE_LIMIT": "256",
        "DOGBOOTH_LOG_LEVEL": "warning",
        **ALLOCATOR,  # as `make serve` sets it
    }
    other = {
        "BASELINE_MODEL": str(setting.base),
        "BASELINE_ADAPTERS": str(setting.home / ("models" if adapters else "none")),
        "BASELINE_THREADS": str(setting.threads),
        "BASELINE_DTYPE": names[setting.dtype],
    }
    return {**os.environ, **(own if side == "ours" else other)}


@contextmanager
def serve(
    side: str,
    setting: Setting,
    adapters: bool = False,
    changed: Mapping[str, str | None] | None = None,
) -> Iterator[str]:
    """The address of a running server of `side`, warm: it has made a picture.

    `changed` takes the place of some of its environment; None unsets.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = "api.main:app" if side == "ours" else "benchmarks.baseline:app"
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--log-level", "warning"]
    wished = {**environment(side, setting, adapters), **(changed or {})}
    variables = {name: value for name, value in wished.items() if value is not None}
    process = subprocess.Popen(command, env=variables)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for_picture(address, process)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def wait_for_picture(address: str, process: subprocess.Popen[bytes], limit: float = 120) -> float:
    """Seconds until the server gave its first picture."""
    started = time.perf_counter()
    body = {"prompt": "a photo of a dog", "model": "dogbooth-base", "steps": 2}
    while time.perf_counter() - started < limit:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        try:
            answer = httpx.post(f"{address}/generate", json=body, headers=PNG, timeout=limit)
            answer.raise_for_status()
            return time.perf_counter() - started
        except httpx.TransportError:
            time.sleep(0.02)
    raise TimeoutError(f"no picture within {limit} s")

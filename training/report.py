"""The progress of a run for another program: one JSON object a line."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from tqdm import tqdm


class Report:
    """Appends events to a file, each flushed; without a file it says nothing.

    `{"event": "preparing"}`, `{"event": "estimate", "parameters", "seconds", "step_seconds",
    "memory_bytes", "fits"}` (once, before the first step), `{"event": "running", "step", "steps"}`
    (where it begins or goes on), `{"event": "step", "step", "steps", "loss", "seconds_left",
    "memory_bytes"}` (about one a second), `{"event": "validation", "step", "loss"}`,
    `{"event": "sample", "step", "path"}`, `{"event": "evaluating"}`, and one of
    `{"event": "succeeded", "model"}`, `{"event": "failed", "code", "message"}`,
    `{"event": "stopped", "step"}`. Of several processes only the first appends.
    """

    def __init__(
        self, path: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path if is_first_process() else None
        self._clock = clock
        self._last_step = -1.0

    @property
    def wanted(self) -> bool:
        """Whether somebody reads it."""
        return self._path is not None

    def event(self, name: str, **fields: Any) -> None:
        """Append one event."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"event": name, **fields}) + "\n")

    def step(self, step: int, steps: int, loss: float, seconds_left: float, memory: int) -> None:
        """Append a step, the last one or where the one before was a second ago."""
        now = self._clock()
        if step < steps and self._last_step >= 0 and now - self._last_step < 1:
            return
        self._last_step = now
        self.event(
            "step",
            step=step,
            steps=steps,
            loss=round(loss, 6),
            seconds_left=round(seconds_left, 1),
            memory_bytes=memory,
        )


def is_first_process() -> bool:
    """Whether this process reports and writes, of those that `accelerate launch` started."""
    return int(os.environ.get("RANK", "0")) == 0


def say(message: str) -> None:
    """One line for the person who waits, beside any progress bar; of the first process only."""
    if is_first_process():
        tqdm.write(message, file=sys.stderr)


def memory_used(device: torch.device) -> int:
    """Bytes that torch holds on a GPU, or that this process holds in main memory."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    used: int = psutil.Process().memory_info().rss
    return used

"""SIGTERM and Ctrl-C: a run in its loop finishes the step, saves and leaves."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from training.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether a signal came."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.saved = 0
        """The last step that is saved."""
        self.waits = False
        """Within the loop: a signal is only noted. Elsewhere, or the second time, it raises."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.waits or self.signal is not None:
            raise Stopped(number, self.saved)
        self.signal = number


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within the block, SIGTERM and SIGINT are a StopRequest's; in the main thread only."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

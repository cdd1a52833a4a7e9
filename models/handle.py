"""A submitted request as its client sees it: events that any thread may read, wait for, replay."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

from models.errors import GenerationCancelled, GenerationFailed
from models.requests import Cancelled, Event, Failed, Finished, ResolvedRequest

FINAL = (Finished, Failed, Cancelled)


class LocalHandle:
    """The `Handle` of an engine in the same process."""

    def __init__(
        self, request: ResolvedRequest, on_cancel: Callable[["LocalHandle"], None]
    ) -> None:
        self.id = uuid4().hex
        self.request = request
        self.cancel_requested = False
        self._on_cancel = on_cancel
        self._events: list[Event] = []
        self._changed = threading.Condition()

    def emit(self, kind: type[Event], **fields: Any) -> None:
        """Append an event with the next id and wake those who wait; for the engine only."""
        with self._changed:
            assert not self._ended(), "an event after the final one"
            self._events.append(kind(id=len(self._events), **fields))
            self._changed.notify_all()

    def events(self, after: int = -1, timeout: float | None = None) -> Iterator[Event]:
        position = after + 1
        ended = False
        while not ended:
            with self._changed:
                if not self._changed.wait_for(partial(self._has, position), timeout):
                    raise TimeoutError(f"no event after {position - 1} within {timeout} s")
                news = self._events[position:]
                ended = self._ended()
            yield from news
            position += len(news)

    def cancel(self) -> None:
        self.cancel_requested = True
        self._on_cancel(self)

    def result(self, timeout: float | None = None) -> Finished:
        with self._changed:
            if not self._changed.wait_for(self._ended, timeout):
                raise TimeoutError(f"no result within {timeout} s")
            last = self._events[-1]
        if isinstance(last, Failed):
            raise GenerationFailed(last.message, last.code)
        if isinstance(last, Cancelled):
            raise GenerationCancelled("the generation was cancelled")
        assert isinstance(last, Finished)
        return last

    def _has(self, position: int) -> bool:
        return len(self._events) > position or self._ended()

    def _ended(self) -> bool:
        return bool(self._events) and isinstance(self._events[-1], FINAL)

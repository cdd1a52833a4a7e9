"""An engine without weights whose events come when a test says so."""

import threading
from concurrent.futures import Future
from typing import Any

from PIL import Image

from models.admission import resolve
from models.catalog import Catalog
from models.errors import EngineClosed, ModelsError
from models.handle import FINAL, LocalHandle
from models.requests import (
    Cancelled,
    EngineStatus,
    Event,
    Finished,
    GeneratedImage,
    GenerationRequest,
    Limits,
    Queued,
    Started,
)
from tests.api.waiting import wait_until


def done() -> Future[None]:
    """An order that was carried out at once."""
    future: Future[None] = Future()
    future.set_result(None)
    return future


class ScriptedEngine:
    """Takes every good request and keeps its handle in `handles`; a cancelled one ends at once.

    With a `refusal` it takes none.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.handles: list[LocalHandle] = []
        self.obeys_cancel = True
        self.refusal: ModelsError | None = None
        self._catalog = catalog
        self._ended: set[str] = set()
        self._lock = threading.Lock()

    def submit(self, request: GenerationRequest) -> LocalHandle:
        if self.refusal is not None:
            raise self.refusal
        handle = LocalHandle(resolve(request, self._catalog, Limits(max_side=64)), self._withdraw)
        handle.emit(Queued, position=len(self.handles))
        self.handles.append(handle)
        return handle

    def handle(self, index: int) -> LocalHandle:
        """The one that was submitted as `index`th, once it is."""
        wait_until(lambda: len(self.handles) > index)
        return self.handles[index]

    def emit(self, number: int, kind: type[Event], /, **fields: Any) -> None:
        """Let an event happen to the `number`th request."""
        handle = self.handle(number)
        with self._lock:
            handle.emit(kind, **fields)
            if kind in FINAL:
                self._ended.add(handle.id)

    def finish(self, index: int) -> None:
        """Start it and give it pictures of one colour, each of its own."""
        request = self.handle(index).request
        images = tuple(
            GeneratedImage(Image.new("RGB", (32, 32), (seed % 256, index, 0)), seed, 0.5)
            for seed in request.seeds
        )
        self.emit(index, Started)
        self.emit(index, Finished, images=images, request=request)

    def end_all(self) -> None:
        """End what has not ended, so that nobody waits for it."""
        self.obeys_cancel = True
        for handle in self.handles:
            handle.cancel()

    def cancelled(self, index: int) -> bool:
        return self.handle(index).cancel_requested

    def warm_up(self, model: str) -> Future[None]:
        return done()

    def unload(self, model: str) -> Future[None]:
        return done()

    def describe(self) -> EngineStatus:
        return EngineStatus(
            ready=True,
            device="none",
            dtype="float32",
            queued=0,
            running=0,
            queue_limit=64,
            resident=(),
            restarts=2,
        )

    def close(self, timeout: float = 10.0) -> None:
        self.refusal = EngineClosed("the engine is shutting down")

    def _withdraw(self, handle: LocalHandle) -> None:
        with self._lock:
            if self.obeys_cancel and handle.id not in self._ended:
                self._ended.add(handle.id)
                handle.emit(Cancelled)

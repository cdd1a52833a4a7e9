"""Runs generation requests one after another on one thread that owns the weights."""

import logging
import math
import threading
import time
from collections import deque

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from models.admission import resolve
from models.catalog import Catalog
from models.errors import (
    EngineClosed,
    GenerationCancelled,
    GenerationFailed,
    ModelsError,
    QueueFull,
)
from models.generate import generate_image
from models.handle import LocalHandle
from models.pipeline import choose_device, choose_dtype
from models.requests import (
    Cancelled,
    EngineStatus,
    Failed,
    Finished,
    GeneratedImage,
    GenerationRequest,
    Limits,
    Queued,
    Started,
    Step,
)
from models.resident import ResidentPipelines

logger = logging.getLogger(__name__)

OUT_OF_MEMORY = "out_of_memory"


class LocalEngine:
    """The `Engine` that lives in the process of the service.

    `queue_limit` requests may wait, `max_resident` models stay in memory, `threads` is the number
    of CPU threads (None: torch's own choice).
    """

    def __init__(
        self,
        catalog: Catalog,
        device: str = "auto",
        dtype: str = "auto",
        queue_limit: int = 16,
        max_resident: int = 2,
        limits: Limits | None = None,
        threads: int | None = None,
    ) -> None:
        self._catalog = catalog
        self._device = choose_device(device)
        self._dtype = choose_dtype(self._device, dtype)
        self._queue_limit = queue_limit
        self._limits = limits or Limits()
        self._threads = threads
        self._residents = ResidentPipelines(catalog, self._device, self._dtype, max_resident)
        self._changed = threading.Condition()
        self._queue: deque[LocalHandle] = deque()
        self._warm_ups: deque[str] = deque()
        self._running: LocalHandle | None = None
        self._ready = False
        self._closed = False
        self._last_seconds = 1.0
        self._worker = threading.Thread(target=self._work, name="dogbooth-engine", daemon=True)
        self._worker.start()

    def submit(self, request: GenerationRequest) -> LocalHandle:
        resolved = resolve(request, self._catalog, self._limits)
        with self._changed:
            if self._closed:
                raise EngineClosed("the engine is shutting down")
            waiting = len(self._queue)
            if waiting >= self._queue_limit:
                raise QueueFull(
                    f"{waiting} requests are waiting, which is the queue's limit",
                    retry_after=max(1, math.ceil(self._last_seconds)),
                )
            handle = LocalHandle(resolved, self._withdraw)
            handle.emit(Queued, position=waiting + (self._running is not None))
            self._queue.append(handle)
            self._changed.notify_all()
        return handle

    def warm_up(self, model: str) -> None:
        with self._changed:
            self._warm_ups.append(model)
            self._changed.notify_all()

    def describe(self) -> EngineStatus:
        with self._changed:
            return EngineStatus(
                ready=self._ready and not self._closed,
                device=str(self._device),
                dtype=str(self._dtype).removeprefix("torch."),
                queued=len(self._queue),
                running=int(self._running is not None),
                queue_limit=self._queue_limit,
                resident=self._residents.names(),
            )

    def close(self, timeout: float = 10.0) -> None:
        with self._changed:
            self._closed = True
            while self._queue:
                handle = self._queue.popleft()
                handle.emit(Failed, code=EngineClosed.code, message="the engine was shut down")
            if self._running is not None:
                self._running.cancel_requested = True
            self._changed.notify_all()
        self._worker.join(timeout)

    def _withdraw(self, handle: LocalHandle) -> None:
        """End a cancelled request at once if it still waits; a running one sees its own flag."""
        with self._changed:
            if handle in self._queue:
                self._queue.remove(handle)
                handle.emit(Cancelled)

    def _work(self) -> None:
        diffusers_logging.disable_progress_bar()
        transformers_logging.disable_progress_bar()
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        while (job := self._next_job()) is not None:
            if isinstance(job, LocalHandle):
                self._run(job)
            else:
                self._load(job)
        self._residents.clear()

    def _next_job(self) -> LocalHandle | str | None:
        """Wait for a request, or the name of a model to load; None once the engine is closed."""
        with self._changed:
            self._running = None
            self._changed.wait_for(lambda: self._closed or self._warm_ups or self._queue)
            if self._closed:
                return None
            if self._warm_ups:
                return self._warm_ups.popleft()
            self._running = self._queue.popleft()
            return self._running

    def _load(self, model: str) -> None:
        try:
            self._residents.get(model)
            self._ready = True
        except ModelsError as error:
            logger.error("warm-up of %s: %s", model, error)
        except Exception:
            logger.exception("warm-up of %s", model)

    def _run(self, handle: LocalHandle) -> None:
        """Bring one request to its final event, whatever happens in it."""
        handle.emit(Started)
        started = time.perf_counter()
        try:
            images = self._generate(handle)
        except GenerationCancelled:
            handle.emit(Cancelled)
        except ModelsError as error:
            handle.emit(Failed, code=error.code, message=str(error))
        except torch.OutOfMemoryError:
            message = "not enough device memory; ask for a smaller width and height"
            handle.emit(Failed, code=OUT_OF_MEMORY, message=message)
        except Exception as error:
            logger.exception("generation %s", handle.id)
            message = f"the generation stopped on an unexpected {type(error).__name__}"
            handle.emit(Failed, code=GenerationFailed.code, message=message)
        else:
            handle.emit(Finished, images=images, request=handle.request)
            self._last_seconds = time.perf_counter() - started

    def _generate(self, handle: LocalHandle) -> tuple[GeneratedImage, ...]:
        """The request's pictures one by one, so that each is the same as when asked for alone."""
        request = handle.request
        resident = self._residents.get(request.model)
        self._ready = True
        images: list[GeneratedImage] = []

        def on_step(step: int, steps: int) -> None:
            handle.emit(Step, step=len(images) * steps + step, steps=len(request.seeds) * steps)
            if handle.cancel_requested:
                raise GenerationCancelled("cancelled between two steps")

        for seed in request.seeds:
            started = time.perf_counter()
            if handle.cancel_requested:
                raise GenerationCancelled("cancelled between two pictures")
            image = generate_image(
                resident.pipeline, resident.scheduler_config, request, seed, on_step
            )
            images.append(GeneratedImage(image, seed, time.perf_counter() - started))
        return tuple(images)

"""Denoises every request at its own step: one thread owns the weights and works in ticks."""

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ParamSpec

import torch
from diffusers.utils import logging as diffusers_logging
from torch import Tensor
from transformers.utils import logging as transformers_logging

from models.admission import resolve
from models.catalog import Catalog
from models.counters import Counters
from models.errors import (
    EngineClosed,
    GenerationFailed,
    ModelInUse,
    ModelsError,
    NotEnoughMemory,
    QueueFull,
    is_out_of_memory,
)
from models.handle import LocalHandle
from models.heat_maps import HeatMaps, watched
from models.lora import Adapter, Layers
from models.pipeline import choose_device, choose_dtype
from models.preview import Previewer
from models.requests import (
    Cancelled,
    EngineStatus,
    Event,
    Failed,
    Finished,
    GeneratedImage,
    GenerationRequest,
    Limits,
    Preview,
    Queued,
    Started,
    Step,
)
from models.residents import Address, Base, Residents, find_address
from models.safety import is_flagged
from models.sample import Sample, check_finite, tensor_picture
from models.turns import BatchLimits, choose

logger = logging.getLogger(__name__)
P = ParamSpec("P")

TIMEOUT, ENGINE_FAILED = "timeout", "engine_failed"
"""Codes of failures that no exception stands for."""

BEHIND_THE_SERVICE = 5
"""Niceness of the threads that compute: what answers other requests needs little, but at once."""

PATIENCE = 5.0
"""Seconds after which a model that waits for memory holds back what came after it."""
OVERDUE = 20.0
"""Seconds without a turn after which a sample goes first. Less would start the end of a long queue
before its beginning is done, and leave batches half empty when it runs dry."""


@dataclass(eq=False)
class Job:
    """A submitted request and its samples."""

    handle: LocalHandle
    samples: list[Sample]
    address: Address
    submitted: float
    running: bool = False
    images: dict[int, GeneratedImage] = field(default_factory=dict)
    steps_taken: int = 0

    @property
    def model(self) -> str:
        return self.handle.request.model

    @property
    def deadline(self) -> float:
        timeout = self.handle.request.timeout
        return math.inf if timeout is None else self.submitted + timeout


class LocalEngine:
    """The `Engine` that lives in the process of the service.

    `queue_limit` requests may wait for their first step, one U-Net call holds `max_batch` rows at
    most, weights in memory stay under `memory_budget` bytes (None: half of the device's memory),
    `preview_decoder` is the folder of an AutoencoderTiny, `threads` the number of CPU threads
    (None: torch's own choice). With `safety_checker`, bases that ship one flag their pictures.
    """

    def __init__(
        self,
        catalog: Catalog,
        device: str = "auto",
        dtype: str = "auto",
        queue_limit: int = 64,
        memory_budget: int | None = None,
        max_batch: int = 32,
        preview_decoder: Path | None = None,
        limits: Limits | None = None,
        threads: int | None = None,
        safety_checker: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._device = choose_device(device)
        self._dtype = choose_dtype(self._device, dtype)
        self._queue_limit = queue_limit
        self._limits = limits or Limits()
        self._threads = threads
        self._clock = clock
        self._batch_limits = self._full_batch = BatchLimits(rows=max_batch)
        self._previewer = Previewer(preview_decoder, self._device, self._dtype)
        self._changed = threading.Condition(threading.RLock())
        self._residents = Residents(
            catalog, self._device, self._dtype, memory_budget, self._wake, safety_checker
        )
        self._jobs: list[Job] = []
        self._warm_ups: list[tuple[str, Future[None]]] = []
        self._unloads: list[tuple[str, Future[None]]] = []
        self._served: dict[str, float] = {}
        self._woken = False
        self._ready = False
        self._closed = False
        self._stopped = False
        self._restarts = 0
        self._counters = Counters()
        self._weights_bytes = 0
        self._seconds_per_request = 1.0
        self._worker = self._start_thread()

    # From any thread.

    def submit(self, request: GenerationRequest) -> LocalHandle:
        resolved = resolve(request, self._catalog, self._limits)
        address = find_address(request.model, self._catalog)
        with self._changed:
            if self._closed:
                raise EngineClosed("the engine is shutting down")
            waiting = sum(not job.running for job in self._jobs)
            if waiting >= self._queue_limit:
                raise QueueFull(
                    f"{waiting} requests are waiting, which is the queue's limit",
                    retry_after=max(1, math.ceil(self._seconds_per_request)),
                )
            now = self._clock()
            handle = LocalHandle(resolved, self._withdraw)
            samples = [Sample(handle, index, now) for index in range(len(resolved.seeds))]
            handle.emit(Queued, position=len(self._jobs))
            self._jobs.append(Job(handle, samples, address, now))
            self._wake()
        return handle

    def warm_up(self, model: str) -> Future[None]:
        with self._changed:
            return self._order(self._warm_ups, model)

    def unload(self, model: str) -> Future[None]:
        with self._changed:
            return self._order(self._unloads, model)

    def describe(self) -> EngineStatus:
        with self._changed:
            running = sum(job.running for job in self._jobs)
            return EngineStatus(
                ready=self._ready and not self._closed,
                device=str(self._device),
                dtype=str(self._dtype).removeprefix("torch."),
                queued=len(self._jobs) - running,
                running=running,
                queue_limit=self._queue_limit,
                resident=self._residents.names(),
                restarts=self._restarts,
                counters=deepcopy(self._counters),
                weights_bytes=self._weights_bytes,
                memory_budget=self._residents.budget,
            )

    def close(self, timeout: float = 10.0) -> None:
        with self._changed:
            self._closed = True
            self._wake()
            self._changed.wait_for(lambda: not self._jobs, timeout)
            self._stopped = True
            for job in list(self._jobs):
                self._end(job, Failed, code=EngineClosed.code, message="the engine was shut down")
            self._wake()
            worker = self._worker
        worker.join()
        for _, ended in (*self._warm_ups, *self._unloads):
            ended.set_exception(EngineClosed("the engine was shut down"))
        self._residents.close()

    def _order(self, orders: list[tuple[str, Future[None]]], model: str) -> Future[None]:
        """Leave an order for the engine's thread; `orders` is this engine's under the lock."""
        if self._closed:
            raise EngineClosed("the engine is shutting down")
        ended: Future[None] = Future()
        ended.set_running_or_notify_cancel()  # who stops waiting does not take the order back
        orders.append((model, ended))
        self._wake()
        return ended

    def _withdraw(self, handle: LocalHandle) -> None:
        """End a cancelled request at once if it still waits; a running one at the next tick."""
        with self._changed:
            for job in self._jobs:
                if job.handle is handle and not job.running:
                    self._end(job, Cancelled)
                    break
            self._wake()

    def _wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def _end(self, job: Job, kind: type[Event], **fields: object) -> None:
        """The final event of a job that has not ended yet."""
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
                self._counters.ended[kind.__name__.lower()] += 1
                job.handle.emit(kind, **fields)
                self._changed.notify_all()

    # On the engine's thread.

    def _start_thread(self) -> threading.Thread:
        thread = threading.Thread(target=self._live, name="dogbooth-engine", daemon=True)
        thread.start()
        return thread

    def _live(self) -> None:
        """Work until stopped; where an error escapes, another thread takes over."""
        diffusers_logging.disable_progress_bar()
        transformers_logging.disable_progress_bar()
        if sys.platform == "linux":  # where a thread has a priority of its own; torch's inherit it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BEHIND_THE_SERVICE)
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                while not self._stopped:
                    self._tick()
        except BaseException as error:
            logger.critical("the engine's thread died", exc_info=error)
            with self._changed:
                running = [job for job in self._jobs if job.running] or list(self._jobs)
                for job in running:
                    message = f"the engine failed ({type(error).__name__}) and was started again"
                    self._end(job, Failed, code=ENGINE_FAILED, message=message)
                self._restarts += 1
                if not self._stopped:
                    self._worker = self._start_thread()

    def _tick(self) -> None:
        """One turn: drop what ended, place what waits, take one step with one batch."""
        # 1. Requests that were cancelled or are overdue leave.
        now = self._clock()
        with self._changed:
            self._woken = False
            if not self._jobs:
                self._served.clear()
                self._batch_limits = self._full_batch
        for job in self._snapshot():
            if job.handle.cancel_requested:
                self._end(job, Cancelled)
            elif now >= job.deadline:
                message = f"not done within {job.handle.request.timeout:g} seconds"
                self._end(job, Failed, code=TIMEOUT, message=message)

        # 2. Weights leave as asked, those that were loaded come in, others are asked for.
        self._unload()
        ready = self._place(now)

        # 3. Whose turn is it?
        samples = [sample for job in ready for sample in job.samples if not sample.done]
        if not samples:
            self._sleep()
            return
        batch = choose(samples, self._served, self._batch_limits, now, OVERDUE)
        jobs = {id(job.handle): job for job in ready}

        # 4. New ones start; each failure ends its own request only.
        started = [sample for sample in batch if self._start(sample, jobs[id(sample.handle)])]

        # 5. One step of each.
        began = self._clock()
        for sample, predicted in self._predict(started, jobs):
            job = jobs[id(sample.handle)]
            self._guard(job, self._advance, sample, predicted, job)
        if started:
            rows = sum(sample.rows for sample in started)
            self._counters.count_step(rows, self._clock() - began)

        # 6. Finished latents become pictures.
        finished = [s for s in started if s.done and jobs[id(s.handle)] in self._jobs]
        if finished:
            self._finish(finished, jobs)

    def _snapshot(self) -> list[Job]:
        with self._changed:
            return list(self._jobs)

    def _sleep(self) -> None:
        """Until something changes or a deadline comes."""
        with self._changed:
            deadline = min((job.deadline for job in self._jobs), default=math.inf)
            timeout = None if deadline == math.inf else max(0.0, deadline - self._clock())
            self._changed.wait_for(lambda: self._woken or self._stopped, timeout)

    def _place(self, now: float) -> list[Job]:
        """The jobs whose weights are in memory; asks for those of the oldest that are not.

        When a job has waited long for memory, none that came after it starts before it.
        """
        collected = self._residents.collect()
        if collected is not None:
            model, error = collected
            self._counters.loads += error is None
            self._counters.failed_loads += error is not None
            self._weights_bytes = self._residents.size
            if error is not None:
                self._end_warm_ups(model, error)
            for job in self._snapshot():
                if job.model == model and not job.running:
                    self._guard(job, self._arrived, job, error)
        ready: list[Job] = []
        in_use: set[Base | Adapter] = set()
        held_back = False
        asked = False
        for job in self._snapshot():
            if not job.running:
                placement = None if held_back else self._residents.find(job.address)
                if placement is None:
                    if not asked:
                        asked = True
                        held_back = not self._ask(job, in_use) and now - job.submitted > PATIENCE
                    continue
                for sample in job.samples:
                    if sample.group is None or sample.placement.base is not placement.base:
                        sample.place(placement)
                    sample.placement = placement
            placement = job.samples[0].placement
            in_use |= placement.weights
            self._ready = True
            ready.append(job)
        if not asked:
            self._warm_up(in_use)
        return ready

    def _arrived(self, job: Job, error: Exception | None) -> None:
        """What was loaded for a job's model is there, perhaps in a newer revision."""
        if error is not None:
            raise error
        job.address = find_address(job.model, self._catalog)

    def _ask(self, job: Job, in_use: set[Base | Adapter]) -> bool:
        """Have a job's model loaded; False while there is no room for it."""
        try:
            return self._residents.load(job.model, self._in_use(in_use))
        except Exception as error:
            self._fail(job, error)
            return True

    def _in_use(self, before: set[Base | Adapter]) -> set[Base | Adapter]:
        """The weights of older jobs, and of all running ones."""
        running = [job.samples[0].placement.weights for job in self._jobs if job.running]
        return before.union(*running)

    def _warm_up(self, in_use: set[Base | Adapter]) -> None:
        """Load the first model that was asked to be warm, when no request needs the loader."""
        if not self._warm_ups:
            return
        model, _ = self._warm_ups[0]
        try:
            if self._residents.find(find_address(model, self._catalog)) is not None:
                self._ready = True
                self._end_warm_ups(model, None)
            else:
                self._residents.load(model, in_use)
        except ModelsError as error:
            self._end_warm_ups(model, error)

    def _end_warm_ups(self, model: str, error: Exception | None) -> None:
        """Tell those who wait for `model` that it is in memory, or why not."""
        with self._changed:
            ended = [future for name, future in self._warm_ups if name == model]
            self._warm_ups = [order for order in self._warm_ups if order[0] != model]
        if error is not None and ended:
            logger.error("warm-up of %s: %s", model, error)
        for future in ended:
            future.set_exception(error) if error is not None else future.set_result(None)

    def _unload(self) -> None:
        """Drop the models that were asked to leave, as far as nothing needs them."""
        with self._changed:
            orders, self._unloads = self._unloads, []
        for model, ended in orders:
            using = sum(model in (job.model, job.address.base) for job in self._snapshot())
            if using or any(name == model for name, _ in self._warm_ups):
                reason = f"{using} generations need it" if using else "it is being loaded"
                ended.set_exception(ModelInUse(f"{model}: {reason}"))
            else:
                self._residents.drop(model)
                self._weights_bytes = self._residents.size
                self._ready = bool(self._residents.names())
                ended.set_result(None)

    def _start(self, sample: Sample, job: Job) -> bool:
        """Give `sample` its turn; False where it fails."""
        if sample.started is None:
            with self._changed:
                if job not in self._jobs:
                    return False
                if not job.running:
                    job.running = True
                    job.handle.emit(Started)
            self._guard(job, sample.start, self._clock())
        sample.last_turn = self._clock()
        work = sample.rows * sample.pixels
        least = min(self._served.values(), default=0.0)
        self._served[sample.client] = self._served.get(sample.client, least) + work
        return job in self._jobs

    def _predict(
        self, samples: Sequence[Sample], jobs: dict[int, Job]
    ) -> list[tuple[Sample, Tensor]]:
        """The U-Net's output `[rows, C, h, w]` for each; where one breaks the call, without it."""
        if not samples:
            return []
        base = samples[0].placement.base
        try:
            inputs = torch.cat([sample.model_input() for sample in samples])
            times = torch.stack(
                [s.timesteps[s.position].float() for s in samples for _ in range(s.rows)]
            )
            embeddings = torch.cat([sample.embeddings for sample in samples])
            rows = [
                sample.placement.adapter.unet if sample.placement.adapter else None
                for sample in samples
                for _ in range(sample.rows)
            ]
            watchers = [watcher for sample in samples for watcher in sample.watchers]
            twins = all(sample.rows == 2 for sample in samples)
            predicted = self._call_unet(
                base, inputs, times.to(self._device), embeddings, rows, watchers, twins
            )
            parts = predicted.split([sample.rows for sample in samples])
            return list(zip(samples, parts, strict=True))
        except Exception as error:
            if len(samples) > 1 and not is_out_of_memory(error):
                return [pair for sample in samples for pair in self._predict([sample], jobs)]
            for sample in samples:
                self._fail(jobs[id(sample.handle)], error)
            return []

    def _call_unet(
        self,
        base: Base,
        inputs: Tensor,
        times: Tensor,
        embeddings: Tensor,
        rows: Sequence[Layers | None],
        watchers: Sequence[HeatMaps | None],
        twins: bool = False,
    ) -> Tensor:
        """One U-Net call on `[B, C, h, w]`; in halves, now and later, where memory runs out.

        With `twins`, rows 2i and 2i + 1 differ in their prompts only.
        """
        unet = base.pipeline.unet
        try:
            with base.rows.use(rows), base.twins.use(twins), watched(unet, watchers):
                output: Tensor = unet(
                    inputs.to(unet.dtype, memory_format=torch.channels_last),
                    times,
                    encoder_hidden_states=embeddings,
                    return_dict=False,
                )[0]
            return output.float()
        except Exception as error:
            half = len(inputs) // 2
            if not is_out_of_memory(error) or not half:
                raise
        # Outside the handler: the exception would keep the failed call's tensors alive.
        logger.warning("out of memory with %d rows: going on with %d", len(inputs), half)
        self._batch_limits = replace(self._batch_limits, rows=half)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        parts = (slice(None, half), slice(half, None))
        return torch.cat(
            [
                self._call_unet(
                    base, inputs[part], times[part], embeddings[part], rows[part], watchers[part]
                )
                for part in parts
            ]
        )

    def _advance(self, sample: Sample, predicted: Tensor, job: Job) -> None:
        sample.advance(predicted)
        job.steps_taken += 1
        steps = len(sample.timesteps) * len(job.samples)
        job.handle.emit(Step, step=job.steps_taken, steps=steps)
        every = job.handle.request.preview_every
        if every and sample.position % every == 0 and not sample.done:
            seen = sample.latents if sample.denoised is None else sample.denoised
            image = self._previewer.picture(sample.placement.base, seen)
            job.handle.emit(Preview, index=sample.index, step=sample.position, image=image)

    def _finish(self, samples: Sequence[Sample], jobs: dict[int, Job]) -> None:
        """Decode samples of one group together; the last one of a job ends it."""
        plain = [sample for sample in samples if sample.request.upscale == 1]
        if plain and len(plain) < len(samples):
            self._finish(plain, jobs)
            self._finish([sample for sample in samples if sample.request.upscale > 1], jobs)
            return
        base = samples[0].placement.base
        try:
            latents = torch.cat([sample.latents for sample in samples])
            pictures = decode(base, latents, upscaled=not plain)
        except Exception as error:
            if len(samples) > 1:
                for sample in samples:
                    self._finish([sample], jobs)
            else:
                self._fail(jobs[id(samples[0].handle)], error)
            return
        for sample, picture in zip(samples, pictures, strict=True):
            job = jobs[id(sample.handle)]
            self._guard(job, self._take_picture, sample, picture, job)

    def _take_picture(self, sample: Sample, pixels: Tensor, job: Job) -> None:
        check_finite(pixels, "pixels")
        assert sample.started is not None
        seconds = self._clock() - sample.started
        seed = sample.request.seeds[sample.index]
        self._counters.images += 1
        picture = tensor_picture(pixels)
        flagged = is_flagged(sample.placement.base.pipeline, picture)
        attention = sample.attention()
        job.images[sample.index] = GeneratedImage(picture, seed, seconds, flagged, attention)
        if len(job.images) == len(job.samples):
            images = tuple(job.images[index] for index in range(len(job.samples)))
            self._seconds_per_request = seconds
            self._end(job, Finished, images=images, request=sample.request)

    def _guard(
        self, job: Job, action: Callable[P, object], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Run `action`; what it raises ends `job` and nothing else."""
        if job not in self._jobs:
            return
        try:
            action(*args, **kwargs)
        except Exception as error:
            self._fail(job, error)

    def _fail(self, job: Job, error: Exception) -> None:
        if job not in self._jobs:  # closed in between
            return
        if isinstance(error, ModelsError):
            code, message = error.code, str(error)
        elif is_out_of_memory(error):
            code = NotEnoughMemory.code
            message = "not enough device memory; ask for a smaller width and height"
        else:
            logger.error("generation %s", job.handle.id, exc_info=error)
            code = GenerationFailed.code
            message = f"the generation stopped on an unexpected {type(error).__name__}"
        self._end(job, Failed, code=code, message=message)


def decode(
    base: Base, latents: Tensor, max_pixels: int = 1024 * 1024, upscaled: bool = False
) -> list[Tensor]:
    """Pictures `[3, H, W]` in [-1, 1] of `latents` `[B, C, h, w]`, at most `max_pixels` a call.

    With `upscaled`, by the base's upscaler.
    """
    vae = base.upscaler if upscaled else base.pipeline.vae
    if vae is None:
        raise GenerationFailed(f"{base.name}: its upscaler is gone")
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    pixels = latents.shape[-2] * latents.shape[-1] * factor**2
    scaled = (latents / vae.config.scaling_factor).to(vae.dtype, memory_format=torch.channels_last)
    return [
        picture.float()
        for part in scaled.split(max(1, max_pixels // pixels))
        for picture in vae.decode(part).sample
    ]

"""Runs the generations: those that run are in memory, all are in the database.

Memory belongs to the event loop. Each generation that runs has one thread that hears the engine and
writes what it hears; clients, however many, wait without one.
"""

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Coroutine
from itertools import takewhile
from typing import Any

from anyio import CapacityLimiter, from_thread, to_thread

from api.database.tables import GenerationRow
from api.errors import IdempotencyKeyReused
from api.events import ClientEvent, encode_pictures, tell
from api.generation import INTERRUPTED, WAS_INTERRUPTED, Generation, Key
from api.history import History
from api.limits import ClientLimits
from api.orders import Order
from models.errors import EngineClosed
from models.requests import Engine, Finished, Handle

logger = logging.getLogger(__name__)

GRACE = 30.0
"""Seconds that an engine may be silent after a request's own timeout before it is given up."""
PATIENCE = 1.0
"""Seconds after which a thread that hears nothing looks whether the service ends."""
LAST_CALL = 10.0
"""Seconds that what runs has to finish when the service ends."""
RECENT = 256
"""Ended generations whose every event is still in memory, for clients that come back late."""


class Generations:
    """Every generation that runs, and the way to those that ended."""

    def __init__(self, engine: Engine, history: History, limits: ClientLimits) -> None:
        self._engine = engine
        self._history = history
        self._limits = limits
        self._running: dict[str, Generation] = {}
        self._handles: dict[str, Handle] = {}
        self._recent: OrderedDict[str, Generation] = OrderedDict()
        self._keys: dict[Key, Generation] = {}
        self._submitting = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = CapacityLimiter(math.inf)  # the engine's queue is their bound
        self._refusing = False
        self._closing = False

    async def find(self, generation_id: str) -> Generation | None:
        if generation_id in self._running:
            return self._running[generation_id]
        if not generation_id.isalnum():
            return None
        row = await to_thread.run_sync(self._history.find, generation_id)
        return self.known(row) if row else None

    def known(self, row: GenerationRow) -> Generation:
        """The one of `row`; memory knows more events than the row tells."""
        in_memory = self._running.get(row.id) or self._recent.get(row.id)
        return in_memory or Generation.restored(row)

    def ahead(self, generation: Generation) -> int:
        """How many came before it and have not ended."""
        older = takewhile(lambda other: other is not generation, self._running.values())
        return sum(not other.ended for other in older)

    async def start(self, order: Order, key: Key | None, asynchronous: bool) -> Generation:
        """Submit `order`, or give what runs or finished under the same key.

        Raises IdempotencyKeyReused, LimitReached and whatever `Engine.submit` raises.
        """
        if key is None:
            return await self._submit(order, None, asynchronous)
        async with self._submitting:  # of two retries at once, one submits
            generation = self._keys.get(key)
            if generation is None:
                row = await to_thread.run_sync(self._history.finished_with, key)
                generation = Generation.restored(row) if row else None
            if generation is None:
                generation = self._keys[key] = await self._submit(order, key, asynchronous)
            elif generation.fingerprint != order.fingerprint:
                raise IdempotencyKeyReused(
                    f"Idempotency-Key {key[1]!r}: was sent before with another request"
                )
            generation.asynchronous |= asynchronous
            return generation

    def cancel(self, generation: Generation) -> None:
        """Stop it between two steps; no effect once it has ended. A retry starts anew."""
        handle = self._handles.get(generation.id)
        if handle is not None:
            self._forget_key(generation)
            self._spawn(to_thread.run_sync(handle.cancel))

    def forget(self, generation_id: str) -> None:
        """Ask the database about it from now on: there it was changed or removed."""
        self._recent.pop(generation_id, None)

    async def close(self) -> None:
        """Take no more; let what runs finish within LAST_CALL, then cancel the rest of it."""
        self._refusing = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_CALL)
        self._closing = True
        for generation in list(self._running.values()):
            self.cancel(generation)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * PATIENCE)

    async def _submit(self, order: Order, key: Key | None, asynchronous: bool) -> Generation:
        if self._refusing:
            raise EngineClosed("the service is shutting down")

        def submit() -> tuple[Generation, Handle]:
            with self._limits.job(order.caller, order.pixel_steps):
                handle = self._engine.submit(order.request)
                generation = Generation.of(order, handle.id, key, asynchronous)
                from_thread.run_sync(self._register, generation, handle)
                try:
                    self._history.add(generation, order)
                except BaseException:
                    handle.cancel()
                    from_thread.run_sync(self._unregister, generation)
                    raise
                return generation, handle

        generation, handle = await to_thread.run_sync(submit)
        self._spawn(self._accompany(generation, handle, order))
        return generation

    def _register(self, generation: Generation, handle: Handle) -> None:
        """Before the database knows it: who finds it there finds it here."""
        self._running[generation.id] = generation
        self._handles[generation.id] = handle

    def _unregister(self, generation: Generation) -> None:
        del self._running[generation.id]
        del self._handles[generation.id]
        self._forget_key(generation)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accompany(self, generation: Generation, handle: Handle, order: Order) -> None:
        """Tell what the engine says of `generation` up to its end; it ends, whatever happens.

        What changes its state is in the database before any client hears of it.
        """
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + order.timeout + GRACE

        def hear() -> None:
            after = -1
            while True:
                try:
                    for event in handle.events(after, PATIENCE):
                        files = encode_pictures(event, order) if isinstance(event, Finished) else []
                        told = tell(event, handle.id, order, files)
                        if told.name == "cancelled" and self._closing:
                            told = generation.failure(INTERRUPTED, WAS_INTERRUPTED)
                        if told.name == "started":
                            self._history.start(generation.id, told.time)
                        elif told.final:
                            self._history.end(generation, told, files)
                        loop.call_soon_threadsafe(generation.add, told)
                        after = event.id
                    return
                except TimeoutError:
                    if self._closing or time.monotonic() > deadline:
                        raise

        failure: ClientEvent | None = None
        try:
            await to_thread.run_sync(hear, limiter=self._threads)
            assert generation.ended, "the engine's events ended without a final one"
        except TimeoutError:
            message = f"not done within {order.timeout:g} seconds"
            failure = generation.failure("timeout", message)
            if self._closing:
                failure = generation.failure(INTERRUPTED, WAS_INTERRUPTED)
        except Exception:
            logger.exception("generation %s of request %s", generation.id, order.request_id)
            message = "the service failed; see its log for this request id"
            failure = generation.failure("internal", message)
        if failure is not None:
            await self._fail(generation, handle, failure)
        self._retire(generation)

    async def _fail(self, generation: Generation, handle: Handle, failure: ClientEvent) -> None:
        """End it though the engine, or the database, does not do its part."""
        try:
            await to_thread.run_sync(handle.cancel)
            await to_thread.run_sync(self._history.end, generation, failure, [])
        except Exception:  # the next start of the service calls it interrupted
            logger.exception("generation %s: its end was not written", generation.id)
        if not generation.ended:
            generation.add(failure)

    def _retire(self, generation: Generation) -> None:
        """Forget the engine's side of one that ended, and the oldest of the recent ones."""
        self._unregister(generation)
        self._limits.end_job(generation.client)
        self._recent[generation.id] = generation
        while len(self._recent) > RECENT:
            self._recent.popitem(last=False)

    def _forget_key(self, generation: Generation) -> None:
        if generation.key is not None and self._keys.get(generation.key) is generation:
            del self._keys[generation.key]

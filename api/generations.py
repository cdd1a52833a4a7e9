"""Keeps the generations that run and the last ones that ended, in memory alone.

All of it belongs to the event loop. Each generation that runs has one thread that hears the engine;
clients, however many, wait without one.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Coroutine
from itertools import takewhile
from typing import Any

from anyio import CapacityLimiter, to_thread

from api.errors import IdempotencyKeyReused
from api.events import tell
from api.generation import Generation, Key
from api.orders import Order
from api.pictures import PictureStore
from models.errors import EngineClosed
from models.requests import Engine, Handle

logger = logging.getLogger(__name__)

GRACE = 30.0
"""Seconds that an engine may be silent after a request's own timeout before it is given up."""
PATIENCE = 1.0
"""Seconds after which a thread that hears nothing looks whether the service ends."""
LAST_CALL = 10.0
"""Seconds that what runs has to finish when the service ends."""


class Generations:
    """Every generation that runs, and the last `kept` of those that a client may ask about later.

    Those are the asynchronous ones and the ones with an Idempotency-Key.
    """

    def __init__(self, engine: Engine, pictures: PictureStore, kept: int) -> None:
        self._engine = engine
        self._pictures = pictures
        self._kept = kept
        self._generations: dict[str, Generation] = {}
        self._handles: dict[str, Handle] = {}
        self._ended: deque[Generation] = deque()
        self._keys: dict[Key, Generation] = {}
        self._submitting = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = CapacityLimiter(math.inf)  # the engine's queue is their bound
        self._refusing = False
        self._closing = False

    def find(self, generation_id: str) -> Generation | None:
        return self._generations.get(generation_id)

    def ahead(self, generation: Generation) -> int:
        """How many came before it and have not ended."""
        older = takewhile(lambda other: other is not generation, self._generations.values())
        return sum(not other.ended for other in older)

    async def start(self, order: Order, key: Key | None, asynchronous: bool) -> Generation:
        """Submit `order`, or give what runs or finished under the same key.

        Raises IdempotencyKeyReused and whatever `Engine.submit` raises.
        """
        if key is None:
            return await self._submit(order, None, asynchronous)
        async with self._submitting:  # of two retries at once, one submits
            generation = self._keys.get(key)
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

    async def close(self) -> None:
        """Take no more; let what runs finish within LAST_CALL, then cancel the rest of it."""
        self._refusing = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_CALL)
        self._closing = True
        for generation in list(self._generations.values()):
            self.cancel(generation)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * PATIENCE)

    async def _submit(self, order: Order, key: Key | None, asynchronous: bool) -> Generation:
        if self._refusing:
            raise EngineClosed("the service is shutting down")
        handle = await to_thread.run_sync(self._engine.submit, order.request)
        generation = Generation(handle.id, order, key, asynchronous)
        self._generations[generation.id] = generation
        self._handles[generation.id] = handle
        self._spawn(self._accompany(generation, handle, order))
        return generation

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accompany(self, generation: Generation, handle: Handle, order: Order) -> None:
        """Tell what the engine says of `generation` up to its end; it ends, whatever happens."""
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + order.timeout + GRACE

        def hear() -> None:
            after = -1
            while True:
                try:
                    for event in handle.events(after, PATIENCE):
                        told = tell(event, handle.id, order, self._pictures)
                        loop.call_soon_threadsafe(generation.add, told)
                        after = event.id
                    return
                except TimeoutError:
                    if self._closing or time.monotonic() > deadline:
                        raise

        try:
            await to_thread.run_sync(hear, limiter=self._threads)
            assert generation.ended, "the engine's events ended without a final one"
        except TimeoutError:
            generation.fail("timeout", f"not done within {order.timeout:g} seconds")
            await to_thread.run_sync(handle.cancel)
        except Exception:
            logger.exception("generation %s of request %s", generation.id, order.request_id)
            generation.fail("internal", "the service failed; see its log for this request id")
            await to_thread.run_sync(handle.cancel)
        finally:
            self._retire(generation)

    def _retire(self, generation: Generation) -> None:
        """Forget the engine's side of one that ended, and the oldest of those that are kept."""
        del self._handles[generation.id]
        if not generation.finished:
            self._forget_key(generation)
        if generation.asynchronous or generation.key is not None:
            self._ended.append(generation)
        else:
            del self._generations[generation.id]
        while len(self._ended) > self._kept:
            oldest = self._ended.popleft()
            self._forget_key(oldest)
            del self._generations[oldest.id]

    def _forget_key(self, generation: Generation) -> None:
        if generation.key is not None and self._keys.get(generation.key) is generation:
            del self._keys[generation.key]

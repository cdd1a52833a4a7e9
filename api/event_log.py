"""What happened to a job so far, and a way to wait for more; belongs to the event loop."""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from typing import Generic, Protocol, TypeVar


class Logged(Protocol):
    """An event; its ids rise."""

    @property
    def id(self) -> int: ...

    @property
    def final(self) -> bool: ...


E = TypeVar("E", bound=Logged)


class EventLog(Generic[E]):
    """The events of one job up to a final one."""

    def __init__(self) -> None:
        self.events: list[E] = []
        self._changed = asyncio.Event()

    @property
    def ended(self) -> bool:
        return bool(self.events) and self.events[-1].final

    def append(self, event: E) -> None:
        """Add `event` and wake those who wait."""
        self.events.append(event)
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until `condition`, which is asked again after each event."""
        while not condition():
            await self._changed.wait()

    async def wait_for_end(self) -> None:
        """Until the final event."""
        await self.wait_for(lambda: self.ended)

    async def follow(self, after: int = -1) -> AsyncIterator[E]:
        """The events with an id above `after`, those that are to come included."""
        while True:
            news = self.events[bisect_right(self.events, after, key=lambda event: event.id) :]
            for event in news:
                yield event
                after = event.id
            if self.ended and after >= self.events[-1].id:
                return
            if not news:
                await self._changed.wait()

"""How much one client may ask for: requests a minute, work a day, jobs at once."""

import math
import threading
import time
from collections import Counter as Counts
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from limits import RateLimitItemPerDay, RateLimitItemPerMinute
from limits.storage import MemoryStorage, Storage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError

from api.database.connection import Database
from api.database.tables import Counter
from api.keys import Caller
from models.errors import ModelsError

JOBS_RETRY = 5
"""Seconds after which one of a client's jobs may have ended."""


class LimitReached(ModelsError):
    """The client has used up what it may ask for; try again in `retry_after` seconds."""

    code = "rate_limited"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = max(1, math.ceil(retry_after))


class ClientLimits:
    """What every client has used. Requests count in memory, work in the database."""

    def __init__(self, database: Database) -> None:
        self._requests = MovingWindowRateLimiter(MemoryStorage())
        self._counters = DatabaseStorage(database)
        self._work = FixedWindowRateLimiter(self._counters)
        self._jobs: Counts[str] = Counts()
        self._lock = threading.Lock()

    def count_request(self, caller: Caller) -> None:
        """Raises LimitReached when it is one too many in the last minute."""
        amount = caller.quota.requests_per_minute
        if amount is None:
            return
        item = RateLimitItemPerMinute(amount)
        if not self._requests.hit(item, caller.client):
            wait = self._requests.get_window_stats(item, caller.client).reset_time - time.time()
            raise LimitReached(f"more than {amount} requests within a minute", wait)

    @contextmanager
    def job(self, caller: Caller, pixel_steps: int) -> Iterator[None]:
        """Count a job that the block begins, unless it raises; `end_job` follows. Blocks.

        Raises LimitReached.
        """
        allowed, quota = caller.quota.concurrent_jobs, caller.quota.pixel_steps_per_day
        item = None if quota is None else RateLimitItemPerDay(quota)
        with self._lock:
            if allowed is not None and self._jobs[caller.client] >= allowed:
                raise LimitReached(f"{allowed} jobs of this client wait or run", JOBS_RETRY)
            if item is not None and not self._work.test(item, caller.client, cost=pixel_steps):
                stats = self._work.get_window_stats(item, caller.client)
                raise LimitReached(
                    f"{pixel_steps} pixel-steps (width x height x steps x n): "
                    f"of {quota} a day {stats.remaining} are left",
                    stats.reset_time - time.time(),
                )
            if item is not None:
                self._work.hit(item, caller.client, cost=pixel_steps)
            self._jobs[caller.client] += 1
        try:
            yield
        except BaseException:
            self.end_job(caller.client)
            if item is not None:
                self._counters.incr(item.key_for(caller.client), 0, -pixel_steps)
            raise

    def begin_job(self, client: str) -> None:
        """Count a job of before a restart, whatever the client may have; `end_job` follows."""
        with self._lock:
            self._jobs[client] += 1

    def end_job(self, client: str) -> None:
        """One that `job` or `begin_job` counted has ended."""
        with self._lock:
            self._jobs[client] -= 1
            if not self._jobs[client]:
                del self._jobs[client]

    def work_left(self, caller: Caller) -> int | None:
        """Pixel-steps that the client may still ask for today; None: no bound. Blocks."""
        quota = caller.quota.pixel_steps_per_day
        if quota is None:
            return None
        return self._work.get_window_stats(RateLimitItemPerDay(quota), caller.client).remaining


class DatabaseStorage(Storage):
    """Keeps the counters of the library `limits` in our database, over restarts."""

    STORAGE_SCHEME = None

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database

    @property
    def base_exceptions(self) -> type[Exception]:
        return SQLAlchemyError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        now = datetime.now(UTC)
        with self._database.write() as session:
            row = session.get(Counter, key, with_for_update=True)
            if row is None:
                row = Counter(key=key, value=0, expires=now)
                session.add(row)
            if row.expires <= now:
                row.value, row.expires = 0, now + timedelta(seconds=expiry)
            row.value += amount
            return row.value

    def get(self, key: str) -> int:
        with self._database.read() as session:
            row = session.get(Counter, key)
            return row.value if row is not None and row.expires > datetime.now(UTC) else 0

    def get_expiry(self, key: str) -> float:
        with self._database.read() as session:
            row = session.get(Counter, key)
            return time.time() if row is None else row.expires.timestamp()

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        with self._database.write() as session:
            session.execute(delete(Counter))
        return None

    def clear(self, key: str) -> None:
        with self._database.write() as session:
            session.execute(delete(Counter).where(Counter.key == key))

"""Runs the trainings, one at a time: what is queued, what runs, and what became of it."""

import asyncio
import logging
import re
import shutil
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from anyio import to_thread

from api.database.tables import TrainingRow
from api.keys import Caller
from api.limits import ClientLimits
from api.settings import Settings
from api.trainings.journal import Line, deaths_without_progress
from api.trainings.photos import SentPhoto, store_photos
from api.trainings.process import RunProcess
from api.trainings.store import ENDED, TrainingNameTaken, TrainingStore, write_toml
from models.catalog import Catalog
from models.errors import EngineClosed, ModelsError, QueueFull

logger = logging.getLogger(__name__)

LOOK_EVERY = 0.25
"""Seconds between two looks at a run."""
TO_SAVE = 30.0
"""Seconds that a cancelled run has to save and leave."""
LAST_CALL = 8.0
"""The same when the service ends."""
STRAY = 5.0
"""The same for a run whose service was killed; it noticed that by itself."""
MOST_DEATHS = 3
"""A run that dies so often in a row, and gets no further in between, has failed."""
QUEUE_RETRY = 60
"""Seconds after which one of many trainings may have ended."""


class TrainingNotEnded(ModelsError):
    """Only a training that has ended can be resumed or removed."""

    code = "training_not_ended"


class TrainingSucceeded(ModelsError):
    """There is nothing to resume."""

    code = "training_succeeded"


@dataclass(frozen=True)
class TrainingOrder:
    """What a client asks to be trained."""

    name: str
    config: dict[str, Any]
    """As the database keeps it; `settings` in it are the trainer's."""
    photos: Sequence[SentPhoto]
    """Empty where breeds of a dataset are to be learned."""


class Trainings:
    """Every training, and the processes of those that run.

    `_turn` is held by whoever changes a training's state: a request, or the loop that looks after
    the processes. The methods without `async` block: they are for threads.
    """

    def __init__(
        self, store: TrainingStore, settings: Settings, catalog: Catalog, limits: ClientLimits
    ) -> None:
        self.store = store
        self.seconds = 0.0
        """That processes have run since this service began."""
        self.steps = 0
        """That they have taken since then."""
        self._settings = settings
        self._catalog = catalog
        self._limits = limits
        self._device = settings.training_device or settings.device
        self._runs: dict[str, RunProcess] = {}
        self._began: dict[str, float] = {}
        self._counted: dict[str, str] = {}
        """The clients of trainings that have not ended."""
        self._turn = threading.Lock()
        self._closing = False
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._looking: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        """Processes there are."""
        return len(self._runs)

    def take_over(self) -> None:
        """Go on with what a service that is gone left: nothing is lost, nothing runs twice."""
        for row in self.store.with_process():
            assert row.pid is not None and row.process_started is not None
            self._watch(row.id, RunProcess.stray(row.pid, row.process_started, STRAY))
        for row in self.store.in_state("queued", "preparing", "running", "evaluating"):
            self._count(row)

    async def start(self) -> None:
        """Take over, and look after the queue until `close`."""
        await to_thread.run_sync(self.take_over)
        self._looking = asyncio.create_task(self._look())

    async def close(self) -> None:
        """Start no more; what runs saves and goes on after the next start."""
        self._closing = True
        self._wake.set()
        if self._looking is not None:
            await asyncio.wait([self._looking])

    def create(self, order: TrainingOrder, caller: Caller) -> TrainingRow:
        """Queue a training, its photos checked and kept.

        Raises PhotosRefused, TrainingNameTaken, QueueFull, LimitReached or EngineClosed.
        """
        training_id = uuid4().hex
        self._check_free(order.name)
        with self.store.new_folder(training_id) as folder:
            if order.photos:
                store_photos(order.photos, folder / "photos")
            values = {"name": order.name, "base": order.config["base"]}
            values |= {"method": order.config["method"], **order.config["settings"]}
            if not order.photos:
                dataset = self._settings.home.resolve() / "data" / order.config["dataset"]
                values |= {"dataset": str(dataset), "breeds": order.config["breeds"]}
            write_toml(folder / "run.toml", values)
            with self._turn, self._limits.job(caller, 0):
                self._check_room()
                self._check_free(order.name)
                self.store.add(training_id, order.name, caller.client, order.config, folder)
                self._counted[training_id] = caller.client
        self._tell()
        row = self.store.find(training_id)
        assert row is not None
        return row

    def cancel(self, training_id: str) -> TrainingRow | None:
        """Stop it; it stays, and can be resumed. No effect once it has ended."""
        with self._turn:
            row = self.store.find(training_id)
            if row is None or row.state in ENDED:
                return row
            if training_id in self._runs:
                self.store.request_cancel(training_id)
            else:
                self._uncount(self.store.say(training_id, "cancelled"))
        self._tell()
        return self.store.find(training_id)

    def resume(self, row: TrainingRow, caller: Caller) -> TrainingRow:
        """Queue one that failed or was cancelled; it goes on from its last checkpoint.

        Raises TrainingNotEnded, TrainingSucceeded, TrainingNameTaken, QueueFull or LimitReached.
        """
        with self._turn, self._limits.job(caller, 0):
            self._check_ended(row.id)
            if row.state == "succeeded":
                raise TrainingSucceeded(f"the training {row.id} has succeeded: nothing is left")
            self._check_room()
            self._check_free(row.name)
            row = self.store.say(row.id, "resumed")
            self._counted[row.id] = caller.client
        self._tell()
        return row

    def remove(self, row: TrainingRow) -> None:
        """Remove one that has ended, with its photos; its model stays. Raises TrainingNotEnded."""
        with self._turn:
            self._check_ended(row.id)
            self.store.remove(row.id)
        self._tell()

    def sweep(self) -> None:
        """Remove those that ended longer ago than trainings are kept."""
        if self._settings.keep_days is None:
            return
        limit = datetime.now(UTC) - timedelta(days=self._settings.keep_days)
        for row in self.store.ended_before(limit):
            with suppress(TrainingNotEnded):  # it was resumed a moment ago
                self.remove(row)
                logger.info("retention: removed the training %s", row.id)

    def check_name(self, name: str) -> None:
        """Raises TrainingNameTaken where a training that has not ended will publish `name`."""
        self.store.check_name(name)

    async def follow(self, training_id: str, after: int) -> AsyncIterator[Line]:
        """What its journal says after line `after`, up to its end, as it is read."""
        while True:
            changed = self._changed
            row, lines = await to_thread.run_sync(self._news, training_id, after)
            for line in lines:
                yield line
                after = line.id
            if row is None or row.state in ENDED:
                return
            if not lines:
                await changed.wait()

    def _news(self, training_id: str, after: int) -> tuple[TrainingRow | None, list[Line]]:
        """Its row, and the lines after `after` that the row knows of."""
        row = self.store.find(training_id)
        if row is None:
            return None, []
        return row, self.store.journal(training_id).read(after + 1)[: row.last_event - after - 1]

    async def _look(self) -> None:
        """Look after the processes; while there are none, wait for something to do."""
        while not (self._closing and not self._runs):
            self._wake.clear()
            try:
                changed = await to_thread.run_sync(self._tick)
            except Exception:
                logger.exception("trainings")
                changed = False
                await asyncio.sleep(1)
            if changed:
                self._announce()
            pause = LOOK_EVERY if self._runs or self._closing else None
            try:
                await asyncio.wait_for(self._wake.wait(), pause)
            except TimeoutError:
                continue

    def _tick(self) -> bool:
        """Read what runs have said, settle those that ended, start the next; whether news came."""
        changed = False
        with self._turn:
            for training_id, run in list(self._runs.items()):
                before = self.store.find(training_id)
                row = self.store.advance(training_id)
                changed |= before is None or row.last_event > before.last_event
                if before is not None:  # one that was resumed begins at an earlier step again
                    self.steps += max(0, (row.step or 0) - (before.step or 0))
                if row.state == "succeeded":
                    run.kill()  # it has nothing more to do than to free its memory
                elif row.state == "failed":
                    run.allow(LAST_CALL)  # it leaves by itself, its reason in its log
                elif row.cancel_requested:
                    run.stop(TO_SAVE)
                elif self._closing:
                    run.stop(LAST_CALL)
                run.enforce()
                if not run.alive():
                    self._settle(training_id, run)
                    changed = True
            if not self._runs and not self._closing:
                for row in self.store.in_state("queued")[:1]:
                    self._begin(row)
                    changed = True
        return changed

    def _begin(self, row: TrainingRow) -> None:
        """Start a process for it; whatever happens, none runs that the database does not know."""
        folder = self.store.folder(row.id).resolve()
        self._clear_half_published(row.name)
        device, visible = self._device, {}
        if device.startswith("cuda:"):  # the trainer takes the first that it sees
            device, visible = "cuda", {"CUDA_VISIBLE_DEVICES": device.partition(":")[2]}
        command = ["dreambooth", "--config", str(folder / "run.toml"), "--folder", str(folder)]
        command += ["--report", str(folder / "report.jsonl"), "--leashed", "--device", device]
        if (folder / "photos").is_dir():
            command += ["--photos", str(folder / "photos"), "--class", row.config["class"]]
        environment = {"DOGBOOTH_HOME": str(self._settings.home.resolve()), **visible}
        run = RunProcess.launch(command, environment, folder / "log.txt")
        try:
            self.store.note_start(row.id, run.pid, run.started, self._device)
        except BaseException:
            run.kill()
            raise
        self._watch(row.id, run)
        run.begin()

    def _settle(self, training_id: str, run: RunProcess) -> None:
        """Say what becomes of a training whose process is gone: its end, or another start."""
        row = self.store.advance(training_id)
        if row.state not in ENDED:
            if row.cancel_requested:
                row = self.store.say(training_id, "cancelled")
            elif run.stopping:
                row = self.store.say(training_id, "queued")
            else:
                row = self._settle_death(training_id, run)
        self.store.note_end(training_id)
        run.close()
        del self._runs[training_id]
        self.seconds += time.monotonic() - self._began.pop(training_id)
        if row.state in ENDED:
            self._uncount(row)
        if row.state == "succeeded":
            for part in ("dataset", "parked", "checkpoints", "best", "tensorboard"):
                shutil.rmtree(self.store.folder(training_id) / part, ignore_errors=True)

    def _settle_death(self, training_id: str, run: RunProcess) -> TrainingRow:
        """It ended without a word: of a signal, of the kernel's want of memory, of a bug."""
        how = run.how_it_ended()
        logger.warning("training %s: its run died: %s", training_id, how)
        self.store.say(training_id, "died", how=how)
        lines = self.store.journal(training_id).read()
        if (deaths := deaths_without_progress(lines)) < MOST_DEATHS:
            return self.store.say(training_id, "queued")
        message = f"the run died {deaths} times and got no further in between; at last {how}"
        return self.store.say(training_id, "failed", code="run_died", message=message)

    def _clear_half_published(self, name: str) -> None:
        """Remove what a run that was killed while it published left beside the models."""
        for folder in (self._settings.home / "models").glob(f".{name}.*"):
            if re.fullmatch(r"[0-9a-f]{32}", folder.name.removeprefix(f".{name}.")):
                shutil.rmtree(folder, ignore_errors=True)

    def _watch(self, training_id: str, run: RunProcess) -> None:
        self._runs[training_id] = run
        self._began[training_id] = time.monotonic()

    def _check_ended(self, training_id: str) -> None:
        """Raises TrainingNotEnded; a process that is still leaving is not waited for."""
        row = self.store.find(training_id)
        if row is not None and row.state not in ENDED:
            raise TrainingNotEnded(f"the training {training_id} is {row.state}: cancel it first")
        if (run := self._runs.get(training_id)) is not None:
            run.kill()
            self._settle(training_id, run)

    def _check_room(self) -> None:
        if self._closing:
            raise EngineClosed("the service is shutting down")
        waiting = len(self.store.in_state("queued"))
        if waiting >= self._settings.training_queue_limit:
            raise QueueFull(f"{waiting} trainings wait already", QUEUE_RETRY)

    def _check_free(self, name: str) -> None:
        self.store.check_name(name)
        if any(entry.manifest.name == name for entry in self._catalog.entries()):
            raise TrainingNameTaken(f"name {name!r}: a model is called so already")

    def _count(self, row: TrainingRow) -> None:
        self._limits.begin_job(row.client)
        self._counted[row.id] = row.client

    def _uncount(self, row: TrainingRow) -> None:
        if (client := self._counted.pop(row.id, None)) is not None:
            self._limits.end_job(client)

    def _tell(self) -> None:
        """From a thread: something is to be done, or to be heard."""
        self._loop.call_soon_threadsafe(self._wake.set)
        self._loop.call_soon_threadsafe(self._announce)

    def _announce(self) -> None:
        """Wake those who follow."""
        self._changed.set()
        self._changed = asyncio.Event()

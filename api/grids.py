"""Runs grids: each cell is a generation like any other, the grid waits for all and joins them.

Grids live in memory, on the event loop; a restart forgets them, not the pictures of their cells.
"""

import asyncio
import io
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from anyio import to_thread
from PIL import Image

from api.event_log import EventLog
from api.generation import INTERRUPTED, WAS_INTERRUPTED, Generation
from api.generations import Generations
from api.limits import LimitReached
from api.orders import Order
from api.pictures import PictureFile, PictureStore
from api.schemas.generations import NoData, State
from api.schemas.grids import CellData, GridPicture, GridState
from api.schemas.service import Failure
from models.errors import GenerationCancelled, ModelsError, QueueFull
from models.grids import Axis, labelled

logger = logging.getLogger(__name__)

AT_ONCE = 16
"""Cells of one grid that wait or run: the queue is for others too."""
RECENT = 256
"""Grids that are remembered."""


@dataclass(frozen=True)
class GridEvent:
    """What happened to a grid, as its clients read it."""

    id: int
    name: Literal["queued", "cell", "finished", "failed", "cancelled"]
    data: NoData | CellData | GridPicture | Failure
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def final(self) -> bool:
        return self.name in ("finished", "failed", "cancelled")


class Grid(EventLog[GridEvent]):
    """One grid and its cells, row by row, as far as they were begun."""

    def __init__(self, orders: Sequence[Order], x: Axis, y: Axis | None) -> None:
        super().__init__()
        self.id = uuid4().hex
        self.client = orders[0].caller.client
        self.orders = orders
        self.columns = x.labels()
        self.rows = y.labels() if y else []
        self.generations: list[Generation] = []
        self.cancelled = False
        self.tell("queued", NoData())

    def tell(
        self,
        name: Literal["queued", "cell", "finished", "failed", "cancelled"],
        data: NoData | CellData | GridPicture | Failure,
    ) -> None:
        self.append(GridEvent(len(self.events), name, data))

    def state(self) -> GridState:
        """Where it stands."""
        last = self.events[-1]
        state: State = "running" if any(g.started for g in self.generations) else "queued"
        if last.name not in ("queued", "cell"):
            state = last.name  # type: ignore[assignment]
        return GridState(
            id=self.id,
            state=state,
            columns=self.columns,
            rows=self.rows,
            generations=[generation.id for generation in self.generations],
            finished=self.finished,
            cells=len(self.orders),
            created=self.events[0].time,
            ended=last.time if last.final else None,
            picture=last.data if isinstance(last.data, GridPicture) else None,
            error=last.data if isinstance(last.data, Failure) else None,
        )

    @property
    def finished(self) -> int:
        return sum(event.name == "cell" for event in self.events)


class Grids:
    """Every grid that runs, and the last ones that ended."""

    def __init__(self, generations: Generations, pictures: PictureStore) -> None:
        self._generations = generations
        self._pictures = pictures
        self._grids: OrderedDict[str, Grid] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, grid_id: str) -> Grid | None:
        return self._grids.get(grid_id)

    async def start(self, orders: Sequence[Order], x: Axis, y: Axis | None) -> Grid:
        """Begin a grid; what refuses its first cell is raised."""
        grid = Grid(orders, x, y)
        grid.generations.append(await self._generations.start(orders[0], None, True))
        self._grids[grid.id] = grid
        ended = (each for each in list(self._grids.values()) if each.ended)
        while len(self._grids) > RECENT and (oldest := next(ended, None)):
            self.forget(oldest.id)
        task = asyncio.create_task(self._run(grid))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return grid

    def cancel(self, grid: Grid) -> None:
        """Stop its cells between two steps and begin no more; no effect once it has ended."""
        grid.cancelled = True
        for generation in grid.generations:
            self._generations.cancel(generation)

    def forget(self, grid_id: str) -> None:
        self._grids.pop(grid_id, None)

    async def close(self) -> None:
        """Begin no more cells; those that run are ended with all generations."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, grid: Grid) -> None:
        """Draw every cell, then join them; a cell that fails ends the grid."""
        cells = [asyncio.create_task(self._cell(grid, 0))]
        try:
            for order in grid.orders[1:]:
                if not await self._begin(grid, order):
                    break
                cells.append(asyncio.create_task(self._cell(grid, len(cells))))
            await asyncio.gather(*cells)
            if len(cells) < len(grid.orders):
                raise GenerationCancelled(f"the grid {grid.id} was cancelled")
            picture = await to_thread.run_sync(self._join, grid)
            grid.tell("finished", picture)
        except asyncio.CancelledError:
            grid.tell("failed", Failure(code=INTERRUPTED, message=WAS_INTERRUPTED))
            raise
        except GenerationCancelled:
            grid.tell("cancelled", NoData())
        except ModelsError as error:
            grid.tell("failed", Failure(code=error.code, message=str(error)))
        except Exception:
            logger.exception("grid %s", grid.id)
            message = "the service failed; see its log for this grid's id"
            grid.tell("failed", Failure(code="internal", message=message))
        finally:
            self.cancel(grid)
            for cell in cells:
                cell.cancel()

    async def _begin(self, grid: Grid, order: Order) -> bool:
        """Submit a cell as soon as the queue, and what its client may have, let it in.

        False where the grid was cancelled or another cell came to nothing.
        """
        while True:
            waiting = [each for each in grid.generations if not each.ended]
            lost = any(each.ended and not each.finished for each in grid.generations)
            if grid.cancelled or lost:
                return False
            if len(waiting) < AT_ONCE:
                try:
                    grid.generations.append(await self._generations.start(order, None, True))
                    return True
                except (QueueFull, LimitReached):
                    if not waiting:
                        raise
            await waiting[0].wait_for_end()

    async def _cell(self, grid: Grid, index: int) -> None:
        """Wait for one cell; raises what it failed of."""
        generation = grid.generations[index]
        await generation.wait_for_end()
        [image] = generation.answer().images
        grid.tell(
            "cell",
            CellData(
                index=index,
                generation=generation.id,
                url=image.url,
                seconds=image.seconds,
                finished=grid.finished + 1,
                cells=len(grid.orders),
            ),
        )

    def _join(self, grid: Grid) -> GridPicture:
        """The labelled picture, stored; a cell whose picture was removed meanwhile stays empty."""
        images = [generation.answer().images[0] for generation in grid.generations]
        found = [self._pictures.find(image.id) for image in images]
        cells = [Image.open(place[0]).convert("RGB") if place else None for place in found]
        notes = [f"{image.seconds:.2f} s" for image in images]
        width = len(grid.columns)
        starts = range(0, len(cells), width)
        joined = labelled(
            [cells[start : start + width] for start in starts],
            grid.columns,
            grid.rows or None,
            [notes[start : start + width] for start in starts],
        )
        buffer = io.BytesIO()
        joined.save(buffer, "PNG")
        file = PictureFile("png", buffer.getvalue())
        self._pictures.save(file)
        return GridPicture(id=file.id, url=f"/images/{file.id}")

"""What the routes share, made once at start."""

from dataclasses import dataclass
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from api.database.connection import Database
from api.generations import Generations
from api.grids import Grids
from api.history import History
from api.keys import Keys
from api.limits import ClientLimits
from api.metrics import Metrics
from api.pictures import PictureStore
from api.retention import Retention
from api.settings import Settings
from api.trainings.runner import Trainings
from api.webui import WebUi
from models.catalog import Catalog
from models.requests import Engine


@dataclass(frozen=True)
class Service:
    """The running service's parts."""

    settings: Settings
    catalog: Catalog
    engine: Engine
    database: Database
    """Its sessions block: for threads."""
    pictures: PictureStore
    history: History
    """Blocks: for threads."""
    retention: Retention
    """Blocks: for threads."""
    keys: Keys
    """Blocks: for threads."""
    limits: ClientLimits
    generations: Generations
    grids: Grids
    trainings: Trainings
    metrics: Metrics
    webui: WebUi
    decoding: CapacityLimiter
    """How many threads may decode pictures of clients at once."""
    importing: CapacityLimiter
    """How many threads may take models or photos in or pack models at once."""
    identifying: CapacityLimiter
    """How many threads may look up keys at once; each takes less than a millisecond."""


async def _service(request: Request) -> Service:
    service: Service = request.state.service
    return service


ServiceDependency = Annotated[Service, Depends(_service)]

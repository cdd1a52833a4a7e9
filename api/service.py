"""What the routes share, made once at start."""

from dataclasses import dataclass
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from api.generations import Generations
from api.pictures import PictureStore
from api.settings import Settings
from models.catalog import Catalog
from models.requests import Engine


@dataclass(frozen=True)
class Service:
    """The running service's parts."""

    settings: Settings
    catalog: Catalog
    engine: Engine
    pictures: PictureStore
    generations: Generations
    decoding: CapacityLimiter
    """How many threads may decode pictures of clients at once."""


async def _service(request: Request) -> Service:
    service: Service = request.state.service
    return service


ServiceDependency = Annotated[Service, Depends(_service)]

"""The service: `uvicorn api.main:app`, then http://127.0.0.1:8000/docs."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from api.body_limit import BodyLimitMiddleware
from api.errors import add_error_handlers
from api.generations import Generations
from api.pictures import PictureStore
from api.request_id import RequestIdMiddleware
from api.routes import breeds, generate, generations, health, images, models
from api.service import Service
from api.settings import Settings
from models import __version__
from models.catalog import Catalog, embedded_folder
from models.errors import ModelNotFound
from models.requests import Engine, Limits

logger = logging.getLogger(__name__)

DESCRIPTION = """
Makes pictures of dogs with Stable Diffusion, fine-tuned by DreamBooth on Stanford Dogs breeds or
on a few photos of one dog. Start with **POST /generate** and *Try it out*: choose `image/png` as
the media type of the 200 answer to see the picture here.
"""


class State(TypedDict):
    """What the lifespan hands to every request."""

    service: Service


def create_app(settings: Settings | None = None, engine: Engine | None = None) -> FastAPI:
    """The service; reads its settings and starts its engine when it starts, not before.

    An `engine` that is given stays its giver's to close.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[State]:
        chosen = settings or Settings()
        catalog = Catalog([chosen.home / "models", embedded_folder()])
        running = engine
        if running is None:
            running = await to_thread.run_sync(_start_engine, chosen, catalog)
        pictures = PictureStore(chosen.home / "images")
        service = Service(
            settings=chosen,
            catalog=catalog,
            engine=running,
            pictures=pictures,
            generations=Generations(running, pictures, chosen.generations_kept),
            decoding=CapacityLimiter(2),
        )
        try:
            yield {"service": service}
        finally:
            await service.generations.close()
            if engine is None:
                await to_thread.run_sync(running.close)

    app = FastAPI(title="dogbooth", version=__version__, description=DESCRIPTION, lifespan=lifespan)
    app.add_middleware(BodyLimitMiddleware)
    app.add_middleware(RequestIdMiddleware)
    add_error_handlers(app)
    for module in (generate, generations, images, models, breeds, health):
        app.include_router(module.router)
    app.add_api_route("/", _to_docs, include_in_schema=False)
    return app


async def _to_docs() -> RedirectResponse:
    return RedirectResponse("/docs")


def _start_engine(settings: Settings, catalog: Catalog) -> Engine:
    """The engine of `settings`, loading the default model in the background."""
    from models.engine import LocalEngine  # torch: seconds to import, and only a server needs it

    engine = LocalEngine(
        catalog,
        device=settings.device,
        dtype=settings.dtype,
        queue_limit=settings.queue_limit,
        memory_budget=settings.memory_budget,
        max_batch=settings.max_batch,
        preview_decoder=settings.preview_decoder,
        limits=Limits(settings.max_side, settings.max_steps, settings.max_images),
        threads=settings.threads,
    )
    try:
        engine.warm_up(catalog.default_model(settings.default_model))
    except ModelNotFound as error:
        logger.warning("%s", error)
    return engine


app = create_app()

"""The service: `uvicorn api.main:app`, then http://127.0.0.1:8000."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any, TypedDict

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI
from pydantic import BaseModel

from api.body_limit import BodyLimitMiddleware
from api.cors import CorsMiddleware
from api.database.connection import open_database
from api.database.sole import sole_service
from api.errors import add_error_handlers, documented
from api.generations import Generations
from api.grids import Grids
from api.history import History
from api.keys import Keys
from api.limits import ClientLimits
from api.logs import configure_logs
from api.metrics import Metrics, MetricsMiddleware
from api.pictures import PictureStore
from api.request_id import RequestIdMiddleware
from api.retention import SWEEP_EVERY, Retention
from api.routes import (
    breeds,
    docs,
    generate,
    generations,
    grids,
    health,
    images,
    metrics,
    models,
    openai,
    page,
    trainings,
    usage,
    webui,
    webui_lists,
)
from api.schemas.openai import OpenAIErrorAnswer
from api.schemas.service import ErrorAnswer
from api.schemas.webui import WebUiError
from api.service import Service
from api.settings import Settings
from api.trainings.runner import Trainings
from api.trainings.store import TrainingStore
from api.uploads import clear_uploads
from api.webui import WebUi
from models import __version__
from models.catalog import Catalog, embedded_folder
from models.errors import ModelNotFound
from models.requests import Engine

logger = logging.getLogger(__name__)

DESCRIPTION = """
Makes pictures of dogs with Stable Diffusion, fine-tuned by DreamBooth on Stanford Dogs breeds or
on a few photos of one dog. Start with **POST /generate** and *Try it out*: choose `image/png` as
the media type of the 200 answer to see the picture here.
"""


class State(TypedDict):
    """What the lifespan hands to every request."""

    service: Service


class Application(FastAPI):
    """Documents no 422 where a route's errors have another status; FastAPI adds one by itself."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            schema = super().openapi()
            for operation in (op for item in schema["paths"].values() for op in item.values()):
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
            for unused in ("HTTPValidationError", "ValidationError"):
                schema["components"]["schemas"].pop(unused, None)
        return self.openapi_schema or {}


def create_app(settings: Settings | None = None, engine: Engine | None = None) -> FastAPI:
    """The service; reads its settings and starts its engine when it starts, not before.

    An `engine` that is given stays its giver's to close.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[State]:
        chosen = settings or Settings()
        configure_logs(chosen.log_format, chosen.log_level)
        database = await to_thread.run_sync(open_database, chosen.database_url, chosen.home)
        resources = ExitStack()
        resources.callback(database.close)
        await to_thread.run_sync(resources.enter_context, sole_service(database))
        catalog = Catalog([chosen.home / "models", embedded_folder()])
        clear_uploads(chosen.home)
        running = engine
        if running is None:
            running = await to_thread.run_sync(_start_engine, chosen, catalog)
        pictures = PictureStore(chosen.home / "images")
        history = History(database, pictures)
        interrupted = await to_thread.run_sync(history.interrupt)
        if interrupted:
            logger.warning("%d generations were interrupted by the last end", interrupted)
        limits = ClientLimits(database)
        store = TrainingStore(database, chosen.home)
        jobs = Trainings(store, chosen, catalog, limits)
        await jobs.start()
        drawing = Generations(running, history, limits)
        service = Service(
            settings=chosen,
            catalog=catalog,
            engine=running,
            database=database,
            pictures=pictures,
            history=history,
            retention=Retention(database, pictures, chosen.keep_days, chosen.keep_bytes),
            keys=Keys(database),
            limits=limits,
            generations=drawing,
            grids=Grids(drawing, pictures),
            trainings=jobs,
            metrics=Metrics(running, jobs),
            webui=WebUi(),
            decoding=CapacityLimiter(2),
            importing=CapacityLimiter(1),
            identifying=CapacityLimiter(4),
        )
        sweeping = asyncio.create_task(_sweep(service.retention.sweep, jobs.sweep))
        try:
            yield {"service": service}
        finally:
            sweeping.cancel()
            await asyncio.wait([sweeping])
            await service.grids.close()
            await asyncio.gather(jobs.close(), drawing.close())
            if engine is None:
                await to_thread.run_sync(running.close)
            await to_thread.run_sync(resources.close)

    app = Application(
        title="dogbooth",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,
        redoc_url=None,
        # Spans and metrics, where OTEL_EXPORTER_OTLP_ENDPOINT says; what failed is in our own log.
        telemetry={"auto_configure": True, "logs": False},
    )
    app.add_middleware(CorsMiddleware)
    app.add_middleware(BodyLimitMiddleware)
    app.add_middleware(MetricsMiddleware)
    app.add_middleware(RequestIdMiddleware)
    add_error_handlers(app)
    own = (generate, generations, grids, images, models, trainings, breeds, usage, metrics)
    for module in own:
        app.include_router(module.router, responses=_refusals(ErrorAnswer))
    app.include_router(health.router)
    app.include_router(openai.router, responses=_refusals(OpenAIErrorAnswer))
    for module in (webui, webui_lists):
        app.include_router(module.router, responses=_refusals(WebUiError))
    for module in (page, docs):
        app.include_router(module.router)
    app.mount("/page", page.PageFiles())
    app.mount("/docs/assets", docs.swagger_files())
    return app


def _refusals(shape: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """What every route that asks for a role may answer."""
    return documented(401, 403, 429, shape=shape)


async def _sweep(*sweeps: Callable[[], None]) -> None:
    """At the start, then every hour; a sweep that fails is tried again at the next."""
    while True:
        for sweep in sweeps:
            try:
                await to_thread.run_sync(sweep)
            except Exception:
                logger.exception("retention")
        await asyncio.sleep(SWEEP_EVERY)


def _start_engine(settings: Settings, catalog: Catalog) -> Engine:
    """The engine of `settings`, loading the default model in the background."""
    gc.disable()  # a fifth of the seconds that importing torch and diffusers takes
    from models.engine import LocalEngine

    gc.freeze()  # what was imported stays: later collections need not walk through it
    gc.enable()

    engine = LocalEngine(
        catalog,
        device=settings.device,
        dtype=settings.dtype,
        queue_limit=settings.queue_limit,
        memory_budget=settings.memory_budget,
        max_batch=settings.max_batch,
        preview_decoder=settings.preview_decoder,
        safety_checker=settings.safety_checker,
        limits=settings.limits,
        threads=settings.threads,
    )
    try:
        engine.warm_up(catalog.default_model(settings.default_model))
    except ModelNotFound as error:
        logger.warning("%s", error)
    return engine


app = create_app()

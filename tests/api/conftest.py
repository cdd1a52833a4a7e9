"""A running service on tiny models: in process for most tests, on a socket for some."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from typing import Any
from uuid import uuid4

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.database.connection import Database, open_database
from api.keys import Keys, Quota
from api.main import create_app
from api.schemas.generate import MAX_SIDE
from api.settings import Settings
from models.catalog import Catalog
from models.engine import LocalEngine
from models.requests import Limits
from tests.api.scripted import ScriptedEngine
from tests.api.waiting import wait_until
from tests.training.conftest import (  # noqa: F401 fixtures that are wanted here too
    cats,
    two_breeds,
)

LIMITS = Limits(max_side=64)


def make_settings(home: Path, **fields: Any) -> Settings:
    """Settings with a database of their own: one service at a time uses a database."""
    values: dict[str, Any] = {
        "home": home,
        "database_url": f"sqlite:///{home / uuid4().hex}.db",
        "device": "cpu",
        "dtype": "fp32",
        "default_model": "tiny",
        "max_side": 64,
    }
    return Settings(**(values | fields))


@pytest.fixture(scope="session", autouse=True)
def no_shipped_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """These tests know every model there is; the shipped ones have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        empty = tmp_path_factory.mktemp("embedded")
        patch.setattr("api.main.embedded_folder", lambda: empty)
        yield


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Path:
    home = tmp_path_factory.mktemp("home")
    copytree(tiny_models, home / "models")
    return home


@pytest.fixture(scope="session")
def client(shared_home: Path) -> Iterator[TestClient]:
    """A service that tests share: they may draw, but neither publish nor fill the queue."""
    engine = LocalEngine(Catalog([shared_home / "models"]), "cpu", "fp32", limits=LIMITS, threads=1)
    with TestClient(create_app(make_settings(shared_home), engine)) as client:
        yield client
    engine.close()


@pytest.fixture(scope="session")
def live(shared_home: Path) -> Iterator[str]:
    """Where a service listens that tests share, open to all; clients of others ask it."""
    with live_service(make_settings(shared_home, max_side=MAX_SIDE)) as address:
        yield address


@pytest.fixture(scope="session")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, tiny_models: Path
) -> Iterator[tuple[str, str]]:
    """Where a service listens that asks for keys, and an admin's key; it may take in models."""
    home = tmp_path_factory.mktemp("guarded")
    copytree(tiny_models, home / "models")
    settings = make_settings(
        home, max_side=MAX_SIDE, allow_anonymous=None, training_queue_limit=10_000
    )
    database = open_database(settings.database_url, settings.home)
    key = Keys(database).create("tests", "admin", Quota())
    database.close()
    with live_service(settings) as address:
        yield address, key


@contextmanager
def live_service(settings: Settings) -> Iterator[str]:
    """Where a service of `settings` listens, with `tiny` in memory."""
    engine = LocalEngine(Catalog([settings.home / "models"]), "cpu", "fp32", threads=1)
    engine.warm_up("tiny")
    with serve(create_app(settings, engine)) as address:
        wait_until(lambda: engine.describe().ready)
        yield address
    engine.close()


@pytest.fixture
def engine(catalog: Catalog) -> Iterator[LocalEngine]:
    """An engine of one's own whose queue takes one request."""
    engine = LocalEngine(catalog, "cpu", "fp32", queue_limit=1, threads=1)
    yield engine
    engine.close()


@pytest.fixture
def own_app(tmp_path: Path, engine: LocalEngine) -> FastAPI:
    """A service of one's own on `engine` and `catalog`."""
    return create_app(make_settings(tmp_path), engine)


@pytest.fixture
def scripted(shared_home: Path) -> ScriptedEngine:
    """An engine whose events come when the test says so."""
    return ScriptedEngine(Catalog([shared_home / "models"]))


@pytest.fixture
def scripted_app(shared_home: Path, scripted: ScriptedEngine) -> FastAPI:
    """A service on `scripted`."""
    return create_app(make_settings(shared_home), scripted)


@pytest.fixture
def kept(tmp_path: Path, tiny_models: Path, database_url: str) -> Settings:
    """Settings whose database, of each kind, outlives a service."""
    copytree(tiny_models, tmp_path / "models")
    return make_settings(tmp_path, database_url=database_url)


@pytest.fixture
def database(kept: Settings) -> Iterator[Database]:
    database = open_database(kept.database_url, kept.home)
    yield database
    database.close()


@contextmanager
def scripted_service(settings: Settings) -> Iterator[tuple[TestClient, ScriptedEngine]]:
    """A service of `settings` with an engine of its own; may be started again after its end."""
    engine = ScriptedEngine(Catalog([settings.home / "models"]))
    with TestClient(create_app(settings, engine)) as client:
        yield client, engine
        engine.end_all()


@pytest.fixture
def scripted_client(scripted_app: FastAPI, scripted: ScriptedEngine) -> Iterator[TestClient]:
    with TestClient(scripted_app) as client:
        yield client
        scripted.end_all()


@pytest.fixture
def scripted_address(scripted_app: FastAPI, scripted: ScriptedEngine) -> Iterator[str]:
    """Where `scripted_app` listens: for what needs real connections."""
    with serve(scripted_app) as address:
        yield address
        scripted.end_all()


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """Run `app` under uvicorn on a free port and give its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the server did not stop"


@pytest.fixture
def address(own_app: FastAPI) -> Iterator[str]:
    """Where `own_app` listens."""
    with serve(own_app) as address:
        yield address

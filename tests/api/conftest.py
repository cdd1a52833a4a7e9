"""A running service on tiny models: in process for most tests, on a socket for some."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.main import create_app
from api.settings import Settings
from models.catalog import Catalog
from models.engine import LocalEngine
from models.requests import Limits
from tests.api.scripted import ScriptedEngine

LIMITS = Limits(max_side=64)


def make_settings(home: Path) -> Settings:
    return Settings(home=home, device="cpu", dtype="fp32", default_model="tiny", max_side=64)


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

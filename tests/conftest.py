"""Fixtures that several test folders share: tiny models, published in a catalog of their own."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import reads it: an unknown id must fail at once

from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from models.catalog import Catalog
from tests.postgres import database, server
from tests.tiny import publish_adapter, publish_base


@pytest.fixture(scope="session", autouse=True)
def open_to_all() -> Iterator[None]:
    """Test clients come from no loopback address; who tests access takes this away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOGBOOTH_ALLOW_ANONYMOUS", "admin")
        yield


@pytest.fixture(scope="session")
def tiny_pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a folder with a tiny pipeline of the weights of `seed` and its manifest."""

    def make(name: str = "tiny", seed: int = 0, **fields: Any) -> Path:
        catalog = Catalog([tmp_path_factory.mktemp("models")])
        publish_base(catalog, name, seed, **fields)
        return catalog.get(name).folder

    return make


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the base `tiny` and its adapter `rex`; to copy, not to change."""
    root = tmp_path_factory.mktemp("tiny") / "models"
    catalog = Catalog([root])
    publish_base(catalog, "tiny", breeds=["golden retriever", "beagle"])
    publish_adapter(catalog, "rex", base="tiny", breeds=["pug"])
    return root


@pytest.fixture
def catalog(tmp_path: Path, tiny_models: Path) -> Catalog:
    """A catalog of one's own with the base `tiny` and its adapter `rex`."""
    copytree(tiny_models, tmp_path / "models")
    return Catalog([tmp_path / "models"])


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server; skips, with the reason, where none is installed."""
    with server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
    else:
        with database(request.getfixturevalue("postgres")) as url:
            yield url

"""Uploads that mean harm are refused with 4xx, say why, and leave nothing on the disk."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from api.settings import Settings
from models.catalog import Catalog
from models.formats.exporting import export_model
from tests.api import hostile
from tests.api.hostile import Upload
from tests.api.scripted import ScriptedEngine

MARK = Path("/tmp/dogbooth-was-here")
LIMIT = 4_000_000
COUNTED: dict[str, int] = {}


@pytest.fixture(scope="module")
def good(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Whole files of the three kinds."""
    folder, catalog = tmp_path_factory.mktemp("good"), Catalog([tiny_models])
    export_model("tiny", "checkpoint", folder / "checkpoint", catalog)
    export_model("rex", "lora", folder / "lora", catalog)
    export_model("rex", "kohya", folder / "kohya", catalog)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def pipeline(tiny_models: Path) -> dict[str, bytes]:
    """The files of a whole diffusers folder."""
    folder = tiny_models / "tiny"
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def client(tmp_path: Path, catalog: Catalog) -> Iterator[TestClient]:
    """A service on `tmp_path` whose engine has no weights."""
    settings = Settings(home=tmp_path, default_model="tiny", max_upload=LIMIT)
    with TestClient(create_app(settings, ScriptedEngine(catalog))) as client:
        yield client


def test_the_whole_files_that_the_others_are_made_of_are_taken(
    client: TestClient, good: dict[str, bytes], pipeline: dict[str, bytes]
) -> None:
    for name, content in good.items():
        answer = client.post("/models", files={"file": content}, data={"name": name})
        assert answer.status_code == 201, answer.text
    answer = client.post(
        "/models", files={"file": hostile.zipped(pipeline)}, data={"name": "whole"}
    )
    assert answer.status_code == 201, answer.text


Maker = Callable[[dict[str, bytes], dict[str, bytes]], Iterator[Upload]]
FAMILIES: dict[str, Maker] = {
    "pickles": lambda good, pipeline: hostile.pickles(),
    "headers": lambda good, pipeline: hostile.headers(good),
    "architectures": lambda good, pipeline: hostile.architectures(good),
    "archives": lambda good, pipeline: hostile.archives(pipeline),
    "pipelines": lambda good, pipeline: hostile.pipelines(pipeline),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_hostile_uploads_are_refused_and_leave_nothing(
    family: str,
    client: TestClient,
    good: dict[str, bytes],
    pipeline: dict[str, bytes],
    tmp_path: Path,
) -> None:
    MARK.unlink(missing_ok=True)
    before = everything(tmp_path)
    uploads = list(FAMILIES[family](good, pipeline))
    base = {"base": "tiny"} if family == "architectures" else {}
    taken = []
    for upload in uploads:
        file = (upload.filename, upload.content)
        answer = client.post("/models", files={"file": file}, data={"name": "evil", **base})
        if answer.status_code == 201:
            taken.append(upload.what)
            client.delete("/models/evil")
            continue
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (422, "model_refused"), upload.what
        assert len(error["message"].splitlines()) == 1, upload.what
        assert str(tmp_path) not in error["message"], upload.what
        assert everything(tmp_path) == before, upload.what
    assert not taken
    assert not MARK.exists()
    COUNTED[family] = len(uploads)


def test_there_are_more_than_200_of_them() -> None:
    if COUNTED.keys() == FAMILIES.keys():
        assert sum(COUNTED.values()) > 200
    else:
        pytest.skip("the families did not all run")


def everything(folder: Path) -> set[Path]:
    """All there is below `folder`, but the empty folder that uploads pass through."""
    return {path for path in folder.rglob("*") if path != folder / "uploads"}


def test_a_body_above_the_limit_is_refused_on_the_way(client: TestClient, tmp_path: Path) -> None:
    before = everything(tmp_path)
    answer = client.post("/models", files={"file": b"\0" * (LIMIT + 200_000)}, data={"name": "x"})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "content_too_large"
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["../x", "", "X", "a/b", ".x", "x" * 65, "tiny\n"])
def test_a_name_that_is_none_is_refused(
    client: TestClient, good: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    before = everything(tmp_path)
    answer = client.post("/models", files={"file": good["lora"]}, data={"name": name})
    assert answer.status_code == 422
    assert everything(tmp_path) == before

"""A model of one's own over HTTP: brought, looked at, loaded, described, taken away, deleted."""

import asyncio
import io
import json
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from safetensors.torch import load

from api.main import create_app
from models.catalog import Catalog
from models.engine import LocalEngine
from models.formats.exporting import export_model
from models.manifest import read_manifest
from tests.api.conftest import make_settings, serve
from tests.api.test_errors import error_of
from tests.tiny import publish_adapter, publish_base, tiny_manifest

ASKED = {"prompt": "a dog", "seed": 1}


@pytest.fixture
def shipped(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """The base `tiny` ships; the adapter `rex` is one's own."""
    embedded = tmp_path / "embedded"
    embedded.mkdir()
    catalog.get("tiny").folder.rename(embedded / "tiny")
    monkeypatch.setattr("api.main.embedded_folder", lambda: embedded)
    return Catalog([tmp_path / "models", embedded])


def picture(client: TestClient, model: str) -> np.ndarray:
    body = {**ASKED, "model": model}
    answer = client.post("/generate", json=body, headers={"Accept": "image/png"})
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)), dtype=int)


@pytest.mark.parametrize("form", ["lora", "kohya", "diffusers", "checkpoint"])
def test_what_was_taken_away_comes_back_and_draws_the_same(own_app: FastAPI, form: str) -> None:
    with TestClient(own_app) as client:
        before = picture(client, "rex")
        taken = client.get("/models/rex/download", params={"format": form})
        assert taken.status_code == 200, taken.text
        assert int(taken.headers["content-length"]) == len(taken.content)
        ending = "zip" if form == "diffusers" else "safetensors"
        assert taken.headers["content-disposition"] == f'attachment; filename="rex.{ending}"'
        answer = client.post(
            "/models",
            files={"file": (f"rex.{ending}", taken.content)},
            data={"name": "back", "description": "Rex again.", "tags": ["dog", "own"]},
        )
        assert answer.status_code == 201, answer.text
        back = answer.json()
        assert (back["name"], back["description"]) == ("back", "Rex again.")
        assert (back["tags"], back["breeds"]) == (["dog", "own"], ["pug"])
        assert back["size"] > 1000
        assert not back["read_only"]
        assert np.abs(picture(client, "back") - before).max() <= 1


def test_an_upload_by_a_real_connection_is_served_at_once(
    address: str, catalog: Catalog, tmp_path: Path
) -> None:
    export_model("rex", "kohya", tmp_path / "max.safetensors", catalog)
    with (tmp_path / "max.safetensors").open("rb") as file:
        data = {"name": "max", "base": "tiny"}
        answer = httpx.post(f"{address}/models", files={"file": file}, data=data, timeout=60)
    assert answer.status_code == 201, answer.text
    drawn = httpx.post(f"{address}/generate", json={**ASKED, "model": "max"}, timeout=60)
    assert drawn.json()["model"] == "max"


def test_without_a_format_an_adapter_is_a_lora_and_a_base_a_zip(client: TestClient) -> None:
    lora = load(client.get("/models/rex/download").content)
    assert all(key.endswith((".lora_A.weight", ".lora_B.weight")) for key in lora)
    archive = zipfile.ZipFile(io.BytesIO(client.get("/models/tiny/download").content))
    assert {"tiny/model_index.json", "tiny/manifest.json"} <= set(archive.namelist())
    answer = client.get("/models/tiny/download", params={"format": "kohya"})
    assert "is a whole model" in error_of(answer, 422, "model_refused")
    error_of(client.get("/models/nobody/download"), 404, "model_not_found")


def test_downloads_leave_nothing_on_the_disk(own_app: FastAPI, tmp_path: Path) -> None:
    with TestClient(own_app) as client:
        for name in ("rex", "tiny"):
            assert client.get(f"/models/{name}/download").content
    assert not list((tmp_path / "uploads").iterdir())


def test_a_start_removes_what_a_killed_service_left(own_app: FastAPI, tmp_path: Path) -> None:
    (tmp_path / "uploads" / "half").mkdir(parents=True)
    with TestClient(own_app):
        assert not (tmp_path / "uploads").exists()


def test_a_taken_name_is_409(own_app: FastAPI, catalog: Catalog, tmp_path: Path) -> None:
    export_model("rex", "lora", tmp_path / "rex", catalog)
    with TestClient(own_app) as client:
        content = (tmp_path / "rex").read_bytes()
        answer = client.post("/models", files={"file": content}, data={"name": "rex"})
        error_of(answer, 409, "model_exists")
        answer = client.post(
            "/models", files={"file": content}, data={"name": "max", "base": "nobody"}
        )
        assert "base: no model is called 'nobody'" in error_of(answer, 422, "model_refused")
        assert "file: Field required" in error_of(
            client.post("/models", data={"name": "max"}), 422, "invalid_request"
        )


def test_a_detail_has_evaluation_preview_and_size(own_app: FastAPI, catalog: Catalog) -> None:
    folder = catalog.get("rex").folder
    with TestClient(own_app) as client:
        assert client.get("/models/rex").json()["preview"] is None
        error_of(client.get("/models/rex/preview.png"), 404, "not_found")
        Image.new("RGB", (4, 4), "red").save(folder / "preview.png")
        (folder / "evaluation.json").write_text(json.dumps({"subject_similarity": 0.5}))
        detail = client.get("/models/rex").json()
        assert detail["evaluation"] == {"subject_similarity": 0.5}
        assert detail["size"] == sum(path.stat().st_size for path in folder.iterdir())
        answer = client.get(detail["preview"])
        assert answer.headers["content-type"] == "image/png"
        assert Image.open(io.BytesIO(answer.content)).size == (4, 4)


def test_a_model_is_loaded_and_unloaded(own_app: FastAPI) -> None:
    with TestClient(own_app) as client:
        assert client.post("/models/rex/load").json()["resident"]
        assert client.get("/models/tiny").json()["resident"], "an adapter brings its base"
        assert not client.post("/models/rex/unload").json()["resident"]
        assert client.get("/models/tiny").json()["resident"]
        client.post("/models/rex/load")
        assert not client.post("/models/tiny/unload").json()["resident"]
        assert not client.get("/models/rex").json()["resident"], "a base takes its adapters away"
        assert client.get("/readyz").status_code == 503
        assert picture(client, "rex").shape == (32, 32, 3)
        error_of(client.post("/models/nobody/load"), 404, "model_not_found")
        error_of(client.post("/models/nobody/unload"), 404, "model_not_found")


def test_what_cannot_be_loaded_says_why(
    own_app: FastAPI, engine: LocalEngine, catalog: Catalog
) -> None:
    publish_adapter(catalog, "lost", base="gone")
    publish_base(catalog, "broken")
    (catalog.get("broken").folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    with TestClient(own_app) as client:
        answer = client.post("/models/lost/load")
        assert "its base is missing" in error_of(answer, 500, "invalid_model")
        error_of(client.post("/models/broken/load"), 500, "invalid_model")
        engine._residents.budget = 1000
        assert "memory budget" in error_of(client.post("/models/tiny/load"), 503, "out_of_memory")


def test_a_model_in_use_can_be_neither_unloaded_nor_deleted(
    own_app: FastAPI, catalog: Catalog
) -> None:
    publish_adapter(catalog, "max")
    with TestClient(own_app) as client:
        client.post("/models/max/load")
        started = client.post("/generations", json={**ASKED, "model": "max", "steps": 150, "n": 4})
        where = started.headers["location"]
        for answer in (
            client.post("/models/max/unload"),
            client.post("/models/tiny/unload"),
            client.delete("/models/max"),
        ):
            assert "generations need it" in error_of(answer, 409, "model_in_use")
        assert client.get("/models/max").status_code == 200
        client.delete(where)
        while client.get(where).json()["state"] in ("queued", "running"):
            pass
        assert client.delete("/models/max").status_code == 204
        error_of(client.get("/models/max"), 404, "model_not_found")
        assert "max" not in client.get("/readyz").json()["resident"]
    assert not list(catalog.get("rex").folder.parent.glob("*max*"))


def test_a_base_of_others_is_not_deleted(own_app: FastAPI) -> None:
    with TestClient(own_app) as client:
        answer = client.delete("/models/tiny")
        assert error_of(answer, 409, "model_in_use") == "tiny: is the base of rex"
        assert client.delete("/models/rex").status_code == 204
        assert client.delete("/models/tiny").status_code == 204
        error_of(client.delete("/models/tiny"), 404, "model_not_found")


def test_a_description_changes_without_a_reload(own_app: FastAPI, catalog: Catalog) -> None:
    with TestClient(own_app) as client:
        client.post("/models/rex/load")
        changed = client.patch("/models/rex", json={"description": "Rex.", "tags": ["dog"]}).json()
        assert (changed["description"], changed["tags"]) == ("Rex.", ["dog"])
        assert changed["resident"]
        assert client.patch("/models/rex", json={"tags": []}).json()["description"] == "Rex."
        for body in ({"name": "max"}, {"tags": [""]}, {"tags": ["x" * 41]}, {"default": "maybe"}):
            error_of(client.patch("/models/rex", json=body), 422, "invalid_request")
    manifest = read_manifest(catalog.get("rex").folder)
    assert manifest == tiny_manifest(
        "rex", kind="adapter", base="tiny", breeds=["pug"], description="Rex.", tags=[]
    )


def test_the_default_is_chosen_and_given_back(own_app: FastAPI) -> None:
    with TestClient(own_app) as client:
        assert client.post("/generate", json=ASKED).json()["model"] == "tiny"
        assert client.patch("/models/rex", json={"default": True}).json()["default"]
        assert client.post("/generate", json=ASKED).json()["model"] == "rex"
        assert not client.patch("/models/rex", json={"default": False}).json()["default"]
        assert client.post("/generate", json=ASKED).json()["model"] == "tiny"
        client.patch("/models/rex", json={"default": True})
        client.delete("/models/rex")
        assert client.post("/generate", json=ASKED).json()["model"] == "tiny"


def test_what_ships_stays_as_it_is(shipped: Catalog, tmp_path: Path) -> None:
    engine = LocalEngine(shipped, "cpu", "fp32", threads=1)
    with TestClient(create_app(make_settings(tmp_path), engine)) as client:
        assert client.get("/models/tiny").json()["read_only"]
        assert not client.get("/models/rex").json()["read_only"]
        error_of(client.delete("/models/tiny"), 403, "model_read_only")
        answer = client.patch("/models/tiny", json={"description": "Mine."})
        assert "tiny: ships with dogbooth" in error_of(answer, 403, "model_read_only")
        client.patch("/models/rex", json={"default": True})
        assert client.patch("/models/tiny", json={"default": True}).json()["default"]
    engine.close()


def test_uploads_at_the_same_time_take_turns(own_app: FastAPI, catalog: Catalog, tmp_path: Path):

    export_model("rex", "lora", tmp_path / "rex", catalog)
    content = (tmp_path / "rex").read_bytes()

    async def send(address: str) -> list[int]:
        async with httpx.AsyncClient(timeout=60) as client:
            answers = await asyncio.gather(
                *(
                    client.post(
                        f"{address}/models", files={"file": content}, data={"name": f"max{n % 4}"}
                    )
                    for n in range(8)
                )
            )
        return [answer.status_code for answer in answers]

    with serve(own_app) as address:
        assert sorted(asyncio.run(send(address))) == [201] * 4 + [409] * 4

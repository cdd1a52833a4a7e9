"""The whole path in small: photos, training, catalog, HTTP, picture."""

import io
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from api.main import create_app
from api.settings import Settings
from models.catalog import Catalog
from models.engine import LocalEngine
from tests.training.conftest import draw_dog
from training.__main__ import main


def test_two_training_steps_are_served_by_a_running_service(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        draw_dog(number).save(photos / f"{number}.png")
    settings = Settings(home=tmp_path, device="cpu", dtype="fp32", default_model="tiny")
    engine = LocalEngine(catalog, "cpu", "fp32", threads=1)
    with TestClient(create_app(settings, engine)) as client:
        assert "fido" not in {model["name"] for model in client.get("/models").json()["models"]}

        train_fido(photos, tmp_path)
        assert "fido" in {model["name"] for model in client.get("/models").json()["models"]}
        body = {"prompt": "a photo of fido dog", "model": "fido", "steps": 3, "seed": 7}
        answer = client.post("/generate", json=body).json()
        picture = Image.open(io.BytesIO(client.get(answer["images"][0]["url"]).content))
        again = client.post("/generate", json=body, headers={"Accept": "image/png"})
    engine.close()

    assert picture.format == "PNG"
    assert picture.size == (32, 32)
    said = picture.text["parameters"]  # type: ignore[attr-defined]
    assert said.startswith("a photo of fido dog\n")
    assert "Steps: 3" in said
    assert "Seed: 7" in said
    assert "Model: fido" in said
    assert Image.open(io.BytesIO(again.content)).tobytes() == picture.tobytes()


def train_fido(photos: Path, home: Path) -> None:
    config = home / "run.toml"
    config.write_text(
        'base = "tiny"\nrank = 2\nsteps = 2\nresolution = 32\nclass_images = 2\ndevice = "cpu"\n'
    )
    line = ["dreambooth", "--config", str(config), "--photos", str(photos), "--name", "fido"]
    assert main(line) == 0

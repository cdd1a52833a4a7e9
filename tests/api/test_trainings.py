"""Trainings over HTTP: the real process on a tiny base, from photos to a model that draws."""

import dataclasses
import io
import re
from pathlib import Path
from shutil import copytree
from typing import Any, get_args

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from api.schemas.trainings import TrainingSettings
from api.settings import Settings
from api.trainings.presets import PRESETS, Method, Preset, resolve_settings
from api.trainings.store import write_toml
from tests.api.conftest import scripted_service
from tests.api.test_errors import error_of
from tests.api.trained import events, form, photo, train, training_once
from tests.api.waiting import wait_until
from training.config import build, read_toml
from training.dreambooth_config import DreamBoothConfig


def near(picture: bytes) -> bytes:
    """The same photo in another file."""
    file = io.BytesIO()
    Image.open(io.BytesIO(picture)).save(file, "JPEG", quality=95)
    return file.getvalue()


def flat(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 50).save(file, "PNG")
    return file.getvalue()


def refusal(client: TestClient, **fields: Any) -> str:
    """Why a training of breeds was refused."""
    answer = client.post("/trainings", **form("x", photos=0, **fields))
    return error_of(answer, 422, "invalid_request")


def test_photos_become_a_model_that_is_served_at_once(own_app: FastAPI) -> None:
    with TestClient(own_app) as client:
        path = train(client, preset="quick")
        ended = training_once(client, path, "succeeded")
        assert (ended["model"], ended["step"], ended["steps"]) == ("fido", 4, 4)
        assert (ended["class"], ended["base"], ended["photos"]) == ("dog", "tiny", 3)
        assert ended["estimate"]["fits"] and ended["estimate"]["seconds"] > 0
        assert ended["attempts"] == 1 and ended["error"] is None
        assert ended["created"] < ended["started"] < ended["ended"]
        assert [sample["step"] for sample in ended["samples"]] == [0, 2, 4]
        assert client.get(f"{path}/samples").json()["samples"] == ended["samples"]
        grid = client.get(ended["samples"][0]["url"])
        assert Image.open(io.BytesIO(grid.content)).size == (
            32,
            66,
        )  # two pictures and what is between them
        told = events(client, path)
        names = [name for _, name, _ in told]
        assert names[:3] == ["queued", "preparing", "estimate"]
        assert names[-2:] == ["evaluating", "succeeded"]
        assert set(names) >= {"running", "step", "sample"}
        middle = told[3][0]
        assert events(client, path, **{"Last-Event-ID": str(middle)}) == told[4:]
        last = client.get(f"{path}/events", headers={"Last-Event-ID": str(told[-1][0])})
        assert last.status_code == 204
        drawn = client.post("/generate", json={"prompt": "a photo of fido dog", "model": "fido"})
        assert drawn.status_code == 200, drawn.text


def test_photos_that_cannot_be_used_are_named_each_with_its_reason(client: TestClient) -> None:
    files = [
        ("a.png", photo(0)),
        ("folder/b.png", photo(0)),
        ("c.jpg", near(photo(0))),
        ("d.txt", b"no picture"),
        ("e.png", photo(1)[:-400]),
        ("f.png", photo(2, 40)),
        ("g.png", flat(64, 256)),
        ("h.png", photo(3)),
    ]
    sent = form() | {"files": [("photos", (name, data)) for name, data in files]}
    answer = client.post("/trainings", **sent)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "photos_refused"
    assert error["message"].startswith("photos: 6 of 8 cannot be used: ")
    found = {each["photo"]: each["message"] for each in error["photos"]}
    assert found == {
        "b.png": "identical file: a.png",
        "c.jpg": "near-duplicate: a.png",
        "d.txt": "not a picture",
        "e.png": "truncated or damaged picture",
        "f.png": "too small: 40x40, at least 64 pixels a side",
        "g.png": "too long: 64x256, at most 3 times its other side",
    }
    assert [each["index"] for each in error["photos"]] == [1, 2, 3, 4, 5, 6]
    assert client.get("/trainings", params={"name": "fido"}).json()["trainings"] == []


@pytest.mark.parametrize(
    ("fields", "status", "code", "message"),
    [
        ({"photos": 2}, 422, "invalid_request", "photos: 2 were sent; at least 3"),
        ({"name": "Rex!"}, 422, "invalid_request", "name"),
        ({"name": "rex"}, 409, "model_exists", "a model is called so already"),
        ({"base": "nobody"}, 404, "model_not_found", "nobody"),
        ({"base": "../tiny"}, 404, "model_not_found", "tiny"),
        ({"base": "rex"}, 422, "invalid_request", "base 'rex': is itself an adapter"),
        ({"class": "dog; rm"}, 422, "invalid_request", "class"),
        ({"breeds": ["pug"]}, 422, "invalid_request", "breeds: go without photos"),
        ({"dataset": "x"}, 422, "invalid_request", "dataset 'x': goes with breeds"),
        ({"photos": 0, "breeds": ["pug"]}, 422, "invalid_request", "dataset: needed"),
        (
            {"photos": 0, "breeds": ["pug"], "dataset": "x"},
            *(422, "invalid_request", "none of that name was prepared here"),
        ),
        ({"settings": {"steps": 0}}, 422, "invalid_request", "settings.steps 0"),
        ({"settings": {"class_photos": "/etc"}}, 422, "invalid_request", "class_photos"),
        ({"settings": {"device": "cuda"}}, 422, "invalid_request", "device"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once(
    client: TestClient, fields: dict[str, Any], status: int, code: str, message: str
) -> None:
    assert message in error_of(client.post("/trainings", **form(**fields)), status, code)


def test_every_setting_of_the_trainer_can_be_set_or_is_left_out_for_a_reason() -> None:
    own_fields = {"name", "dataset", "breeds", "base", "method"}
    names_files_or_the_device = {"class_photos", "device"}
    the_services = {"checkpoint_every", "checkpoints_kept", "replace"}
    fields = {field.name for field in dataclasses.fields(DreamBoothConfig)}
    left_out = own_fields | names_files_or_the_device | the_services
    assert set(TrainingSettings.model_fields) == fields - left_out


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", get_args(Method))
def test_every_preset_is_one_that_the_trainer_takes(
    preset: Preset, method: Method, tmp_path: Path
) -> None:
    """By the file that the service writes, with what TOML finds hard in a string."""
    single = {"description": 'a "dog"\n\x7f ñ', "class_prompts": ["a dog"], "snr_gamma": None}
    settings = resolve_settings(preset, single)
    write_toml(tmp_path / "run.toml", {"name": "rex", "method": method, **settings})
    values = read_toml(tmp_path / "run.toml") | {"dataset": tmp_path}
    config = build(DreamBoothConfig, values)
    assert config.description == single["description"]
    assert config.steps == PRESETS[preset]["steps"]
    assert config.checkpoint_every <= 100
    assert config.learning_rate is None, "the trainer's choice, which goes by the base too"


def test_one_runs_while_others_wait_and_may_be_cancelled_and_removed(
    own_app: FastAPI, tmp_path: Path
) -> None:
    """Cancelled while it runs, a training goes on from where it saved once it is resumed."""
    with TestClient(own_app) as client:
        settings = {"steps": 100_000, "sample_images": 0}
        first, second = train(client, "fido", settings=settings), train(client, "hasso")
        error_of(client.post("/trainings", **form("fido")), 409, "model_exists")
        training_once(client, first, "running")
        waiting = client.get(second).json()
        assert (waiting["state"], waiting["position"]) == ("queued", 1)
        metrics = client.get("/metrics").text
        assert 'dogbooth_trainings{state="queued"} 1.0' in metrics
        assert "dogbooth_trainings_running 1.0" in metrics
        error_of(client.delete(first), 409, "training_not_ended")
        error_of(client.post(f"{first}/resume"), 409, "training_not_ended")
        assert client.post(f"{second}/cancel").json()["state"] == "cancelled"
        wait_until(lambda: (client.get(first).json()["step"] or 0) > 3)
        metrics = client.get("/metrics").text
        steps = re.search(r"^dogbooth_training_steps_total (\d+)", metrics, re.MULTILINE)
        assert steps is not None and int(steps[1]) > 3
        client.post(f"{first}/cancel")
        stopped = training_once(client, first, "cancelled")
        page = client.get("/trainings", params={"limit": 1}).json()
        rest = client.get("/trainings", params={"cursor": page["next"]}).json()
        assert [each["name"] for each in page["trainings"] + rest["trainings"]] == ["hasso", "fido"]

        assert client.post(f"{first}/resume").json()["state"] == "queued"
        again = training_once(client, first, "running")
        assert again["step"] >= stopped["step"] > 3
        assert again["attempts"] == 2
        client.post(f"{first}/cancel")
        training_once(client, first, "cancelled")
        assert [name for _, name, _ in events(client, first)][-1] == "cancelled"
        folder = tmp_path / "trainings" / stopped["id"]
        assert len(list((folder / "photos").iterdir())) == 3
        assert client.delete(first).status_code == 204
        assert not folder.exists()
        assert client.get(first).status_code == client.get(f"{first}/events").status_code == 404


def test_breeds_of_a_prepared_dataset_are_learned(
    own_app: FastAPI,
    two_breeds: Path,
    tmp_path: Path,
) -> None:
    """A setting that only the trainer finds wrong is why it failed, without a path."""
    with TestClient(own_app) as client:
        assert client.get("/datasets").json() == {"datasets": []}
        copytree(two_breeds, tmp_path / "data" / "dogs")
        (tmp_path / "data" / "unfinished").mkdir()
        breeds = [
            {"name": name, "spanish": spanish, "photos": 6}
            for name, spanish in (("beagle", "beagle"), ("pug", "carlino"))
        ]
        assert client.get("/datasets").json() == {
            "datasets": [{"name": "dogs", "class": "dog", "breeds": breeds}]
        }
        path = train(client, "breeds", photos=0, breeds=["Carlino", "beagle"], dataset="dogs")
        assert refusal(client, breeds="bóxer", dataset="dogs") == (
            "breeds: dogs has no boxer (it has beagle, pug)"
        )
        error = refusal(client, breeds="wolfhund", dataset="dogs")
        assert error.startswith("breeds: unknown breed 'wolfhund'")
        assert training_once(client, path, "succeeded")["breeds"] == ["pug", "beagle"]
        assert set(client.get("/models/breeds").json()["breeds"]) == {"pug", "beagle"}
        path = train(client, "odd", settings={"resolution": 100})
        failed = training_once(client, path, "failed")
        assert failed["error"]["code"] == "invalid_setting"
        assert "/" not in failed["error"]["message"]


def test_breeds_of_cats_are_learned_by_the_names_of_their_dataset(
    own_app: FastAPI, cats: Path, tmp_path: Path
) -> None:
    """Breeds of a dataset were looked up among those of dogs, whatever it showed."""
    copytree(cats, tmp_path / "data" / "cats")
    with TestClient(own_app) as client:
        (listed,) = client.get("/datasets").json()["datasets"]
        assert (listed["name"], listed["class"]) == ("cats", "cat")
        assert [(kind["name"], kind["spanish"]) for kind in listed["breeds"]] == [
            ("Bengal", "Bengal"),
            ("Siamese", "siamés"),
            ("cat", "gato"),
        ]
        error = refusal(client, breeds="pug", dataset="cats")
        assert error == "breeds: cats has no pug (it has Bengal, Siamese, cat)"
        error = refusal(client, breeds="Bengal", dataset="cats", **{"class": "dog"})
        assert error == "class 'dog': the dataset 'cats' shows 'cat'"
        path = train(client, "kitty", photos=0, breeds=["SIAMES", "bengal"], dataset="cats")
        ended = training_once(client, path, "succeeded")
        assert (ended["class"], ended["breeds"]) == ("cat", ["Siamese", "Bengal"])
        assert set(client.get("/models/kitty").json()["breeds"]) == {"Siamese", "Bengal"}
        drawn = client.post("/generate", json={"prompt": "a photo of a Bengal", "model": "kitty"})
        assert drawn.status_code == 200, drawn.text


def test_jobs_count_and_the_queue_is_bounded(kept: Settings) -> None:
    limits = {"concurrent_jobs": 2, "training_queue_limit": 5}
    settings = kept.model_copy(update=limits)
    with scripted_service(settings) as (client, _):
        paths = [train(client, name) for name in ("one", "two")]
        error_of(client.post("/trainings", **form("three")), 429, "rate_limited")
    with scripted_service(settings) as (client, _):
        error_of(client.post("/trainings", **form("three")), 429, "rate_limited")
        for path in paths:
            client.post(f"{path}/cancel")
            training_once(client, path, "cancelled")
        train(client, "three")


def test_trainers_train_and_viewers_look(guarded: tuple[str, str]) -> None:
    address, _ = guarded
    path = f"{address}/trainings/{'0' * 32}"
    for call in (f"{address}/trainings", f"{path}/cancel", f"{path}/resume"):
        assert httpx.post(call, data={"name": "x"}).status_code == 401
    assert httpx.get(path).status_code == 401

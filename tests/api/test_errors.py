import logging
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from api.main import create_app
from api.settings import Settings
from models.engine import LocalEngine
from models.errors import QueueFull
from models.manifest import ADAPTER_FILE
from models.requests import Failed, GenerationRequest
from tests.api.pictures import data_url, file_of
from tests.api.scripted import ScriptedEngine
from tests.api.waiting import in_background

PICTURE = data_url(file_of(Image.new("RGB", (8, 8))))


def error_of(answer: Any, status: int, code: str) -> str:
    """Check that `answer` is an error of the one shape; give its message."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "request_id"}
    assert body["error"]["code"] == code
    assert body["error"]["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    return body["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": ""}, "prompt '': String should have at least 1 character"),
        ({"prompt": "  "}, "prompt '  ': String should have at least 1 character"),
        ({"prompt": 5}, "prompt 5: Input should be a valid string"),
        ({"prompt": "a" * 1001}, "prompt 'aaa"),
        ({"prompt": "a\x00b"}, r"prompt 'a\x00b': String should match"),
        ({"steps": 0}, "steps 0: Input should be greater than or equal to 1"),
        ({"steps": 1000}, "steps 1000: Input should be less than or equal to 150"),
        ({"steps": 2.5}, "steps 2.5: Input should be a valid integer"),
        ({"steps": True}, "steps True: Input should be a valid integer"),
        ({"guidance_scale": -1}, "guidance_scale -1: "),
        ({"guidance_scale": 100}, "guidance_scale 100: "),
        ({"seed": -1}, "seed -1: "),
        ({"seed": 2**32}, "seed 4294967296: "),
        ({"width": 8}, "width 8: "),
        ({"width": 40}, "width 40: the model 'tiny' draws multiples of 16 only"),
        ({"height": 128}, "height 128: must be from 16 to 64"),
        ({"n": 0}, "n 0: "),
        ({"n": 9}, "n 9: must be from 1 to 8"),
        ({"scheduler": "magic"}, "scheduler 'magic': one of ddim, ddpm"),
        ({"scheduler": "lcm", "steps": 60}, "steps 60: the scheduler 'lcm' takes at most 50"),
        ({"format": "gif"}, "format 'gif': Input should be 'png', 'jpeg' or 'webp'"),
        ({"strength": 0.5}, "strength 0.5: Value error, needs an init_image"),
        ({"init_image": PICTURE, "strength": 0}, "strength 0: "),
        ({"init_image": PICTURE, "strength": 1.5}, "strength 1.5: "),
        ({"init_image": "http://dogs/1.png"}, "init_image 'http://dogs/1.png' is not fetched"),
        ({"init_image": "a" * 13_400_000}, "init_image 'aaa"),
        ({"preview_every": -1}, "preview_every -1: "),
        ({"preview_every": 151}, "preview_every 151: "),
        ({"timeout": 0}, "timeout 0: Input should be greater than 0"),
        ({"timeout": 601}, "timeout 601: must be at most 600"),
        ({"colour": "red"}, "colour 'red': Extra inputs are not permitted"),
        ({"steps": 0, "n": 0}, "steps 0: Input should be greater than or equal to 1; n 0: "),
    ],
)
def test_what_cannot_be_drawn_is_422_with_field_and_value(
    client: TestClient, fields: dict[str, Any], message: str
) -> None:
    answer = client.post("/generate", json={"prompt": "a dog", **fields})
    shown = error_of(answer, 422, "invalid_request")
    assert shown.startswith(message)
    assert len(shown) < 300


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}", "prompt: Field required"),
        (b"", "body: Field required"),
        (b"[]", "body []: Input should be a valid dictionary"),
        (b'{"prompt": ', "JSON decode error"),
        (b'{"prompt": "a", "guidance_scale": NaN}', "guidance_scale nan: "),
        (b'{"prompt": "\\ud800"}', r"prompt '\ud800': "),
    ],
)
def test_a_body_that_is_not_right_is_422(client: TestClient, content: bytes, message: str) -> None:
    answer = client.post("/generate", content=content, headers={"Content-Type": "application/json"})
    assert message in error_of(answer, 422, "invalid_request")


def test_a_body_larger_than_any_good_request_is_413(client: TestClient) -> None:
    large = b'{"prompt": "' + b"a" * 14_000_000 + b'"}'
    for content in (large, iter([large])):  # with a Content-Length, and in chunks without one
        answer = client.post(
            "/generations", content=content, headers={"Content-Type": "application/json"}
        )
        assert "at most" in error_of(answer, 413, "content_too_large")


def test_an_unknown_model_is_404_naming_what_exists(client: TestClient) -> None:
    message = "no model is called 'max'; there are rex, tiny"
    answer = client.post("/generate", json={"prompt": "a dog", "model": "max"})
    assert error_of(answer, 404, "model_not_found") == message
    assert error_of(client.get("/models/max"), 404, "model_not_found") == message


def test_no_model_name_leads_out_of_the_catalog(client: TestClient) -> None:
    answer = client.post("/generate", json={"prompt": "a dog", "model": "../models/tiny"})
    error_of(answer, 404, "model_not_found")
    error_of(client.get("/models/..%2Fmodels%2Ftiny"), 404, "not_found")


@pytest.mark.parametrize(
    ("accept", "fields", "message"),
    [
        ("text/html", {}, "Accept 'text/html': one of application/json, image/png"),
        ("image/png", {"n": 2}, "n 2: an answer of type image/png holds one picture"),
        ("image/png", {"format": "webp"}, "format 'webp': the Accept header asks for image/png"),
    ],
)
def test_an_answer_that_nothing_suits_is_406(
    client: TestClient, accept: str, fields: dict[str, Any], message: str
) -> None:
    answer = client.post(
        "/generate", json={"prompt": "a dog", **fields}, headers={"Accept": accept}
    )
    assert error_of(answer, 406, "not_acceptable").startswith(message)


def test_unknown_paths_and_methods_have_the_same_shape(client: TestClient) -> None:
    error_of(client.get("/nothing"), 404, "not_found")
    error_of(client.get("/generate"), 405, "method_not_allowed")
    assert client.put("/generations/a").headers["allow"] == "GET, DELETE"


def test_a_sane_request_id_is_kept_and_any_other_replaced(client: TestClient) -> None:
    kept = client.get("/nothing", headers={"X-Request-ID": "build-7.1"})
    assert kept.json()["error"]["request_id"] == "build-7.1"
    for odd in ("a b", "x" * 65, "<script>"):
        answer = client.get("/healthz", headers={"X-Request-ID": odd})
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_a_full_queue_is_429_with_retry_after(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    scripted.refusal = QueueFull("64 requests are waiting", retry_after=7)
    for path in ("/generate", "/generations"):
        answer = scripted_client.post(path, json={"prompt": "a dog"})
        assert error_of(answer, 429, "queue_full") == "64 requests are waiting"
        assert answer.headers["retry-after"] == "7"


def test_a_broken_model_is_500_without_its_path(
    own_app: FastAPI, engine: LocalEngine, tmp_path: Path
) -> None:
    (tmp_path / "models" / "rex" / ADAPTER_FILE).write_bytes(b"no")
    (tmp_path / "models" / "half").mkdir()
    with TestClient(own_app) as client:
        answer = client.post("/generate", json={"prompt": "a dog", "model": "rex"})
        assert str(tmp_path) not in error_of(answer, 500, "invalid_model")
        answer = client.get("/models/half")
        assert error_of(answer, 500, "invalid_model").startswith("half/manifest.json: No such")


def test_what_takes_too_long_is_504_and_is_stopped(tmp_path: Path, engine: LocalEngine) -> None:
    settings = Settings(home=tmp_path, default_model="tiny", request_timeout=0.5)
    long = {"prompt": "a dog", "steps": 150, "n": 8}
    with TestClient(create_app(settings, engine)) as client:
        answer = client.post("/generate", json=long)
        assert "0.5" in error_of(answer, 504, "timeout")
        answer = client.post("/generate", json={**long, "timeout": 0.25})
        assert "0.25" in error_of(answer, 504, "timeout")
        engine.submit(GenerationRequest("a dog", (1,), "tiny", steps=1)).result(30)


@pytest.mark.parametrize(
    ("code", "status", "retry"),
    [
        ("timeout", 504, None),
        ("out_of_memory", 503, "5"),
        ("engine_closed", 503, "5"),
        ("engine_failed", 500, None),
        ("not_finite", 500, None),
    ],
)
def test_how_the_engine_fails_decides_the_status(
    scripted_client: TestClient, scripted: ScriptedEngine, code: str, status: int, retry: str | None
) -> None:
    call = in_background(scripted_client.post, "/generate", json={"prompt": "a dog"})
    scripted.emit(0, Failed, code=code, message="so it was")
    assert error_of(call.result(60), status, code) == "so it was"
    assert call.result(60).headers.get("retry-after") == retry


def test_after_shutdown_has_begun_it_is_503(own_app: FastAPI, engine: LocalEngine) -> None:
    engine.close()
    with TestClient(own_app) as client:
        for path in ("/generate", "/generations"):
            answer = client.post(path, json={"prompt": "a dog"})
            error_of(answer, 503, "engine_closed")
            assert int(answer.headers["retry-after"]) >= 1
        error_of(client.get("/readyz"), 503, "not_ready")


def test_no_traceback_leaves_but_the_log_names_the_request(
    own_app: FastAPI, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A picture folder that cannot be made is nobody's expected error."""
    (tmp_path / "images").write_text("in the way")
    with (
        caplog.at_level(logging.ERROR),
        TestClient(own_app, raise_server_exceptions=False) as client,
    ):
        answer = client.post("/generate", json={"prompt": "a dog"})
    message = error_of(answer, 500, "internal")
    assert str(tmp_path) not in message
    assert answer.headers["x-request-id"] in caplog.text

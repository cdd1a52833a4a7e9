from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from api.schemas.generate import MAX_IMAGE_BYTES
from tests.api.pictures import data_url, file_of
from tests.api.scripted import ScriptedEngine

PROMPT = "un perro golden retriever en la playa"
RED = file_of(Image.new("RGB", (64, 48), "red"))


def send(client: TestClient, path: str = "/generate", /, **fields: Any) -> httpx.Response:
    """A form of `fields`; those of bytes are files."""
    files = {name: value for name, value in fields.items() if isinstance(value, bytes)}
    texts = {name: value for name, value in fields.items() if name not in files}
    # httpx sends a form without files in another media type.
    return client.post(path, files={**files, **{name: (None, str(texts[name])) for name in texts}})


def test_a_file_draws_what_its_data_url_draws(client: TestClient) -> None:
    asked = {"prompt": PROMPT, "seed": 1, "strength": 0.5, "width": 48}
    from_file = send(client, init_image=RED, **asked)
    assert from_file.status_code == 200, from_file.text
    from_url = client.post("/generate", json={**asked, "init_image": data_url(RED)})
    assert from_file.json()["images"][0]["id"] == from_url.json()["images"][0]["id"]
    assert from_file.json()["parameters"] == from_url.json()["parameters"]


def test_the_engine_gets_the_fields_of_a_form(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    answer = send(
        *(scripted_client, "/generations"),
        **{"prompt": f" {PROMPT} ", "negative_prompt": "", "n": 2, "seed": 7, "timeout": 5.5},
        **{"guidance_scale": 2, "scheduler": "lcm", "init_image": RED, "strength": 0.75},
    )
    assert answer.status_code == 202, answer.text
    request = scripted.handle(0).request
    assert (request.prompt, request.negative_prompt, request.seeds) == (PROMPT, "", (7, 8))
    assert (request.guidance_scale, request.scheduler, request.timeout) == (2.0, "lcm", 5.5)
    assert request.init_image.getpixel((0, 0)) == (255, 0, 0)
    assert request.strength == 0.75


def test_a_form_may_do_without_a_picture_or_leave_fields_empty(client: TestClient) -> None:
    """A browser sends a file's field that nobody filled in as a file without name and bytes."""
    unfilled = {"prompt": (None, PROMPT), "steps": (None, ""), "init_image": ("", b"")}
    for answer in (send(client, prompt=PROMPT), client.post("/generate", files=unfilled)):
        assert answer.status_code == 200, answer.text
        assert answer.json()["parameters"]["strength"] is None


def test_a_form_is_answered_as_the_headers_ask(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    """The same form with the same key is a retry; the same key with another form is refused."""
    codes = []
    for prompt in (PROMPT, PROMPT, "a photo of a pug dog"):
        files = {"prompt": (None, prompt), "init_image": RED}
        headers = {"Prefer": "respond-async", "Idempotency-Key": "one"}
        codes.append(scripted_client.post("/generate", files=files, headers=headers).status_code)
    assert codes == [202, 202, 422]
    assert len(scripted.handles) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"init_image": RED}, "prompt: Field required"),
        ({"prompt": PROMPT, "steps": "many"}, "steps 'many': Input should be a valid integer"),
        ({"prompt": PROMPT, "steps": 0}, "steps '0': Input should be greater than or equal to 1"),
        ({"prompt": PROMPT, "colour": "red"}, "colour 'red': Extra inputs are not permitted"),
        ({"prompt": PROMPT, "strength": 0.5}, "strength '0.5': Value error, needs an init_image"),
        ({"prompt": PROMPT.encode()}, "prompt: is a file, which only init_image may be"),
        ({"prompt": PROMPT, "init_image": RED[:40]}, "is no whole PNG, JPEG or WebP picture"),
        ({"prompt": PROMPT, "init_image": b"GIF89a"}, "is no whole PNG, JPEG or WebP picture"),
        ({"prompt": PROMPT, "init_image": "http://dog.example/a.png"}, "is not fetched: send the"),
        (
            {"prompt": PROMPT, "init_image": b"\0" * (MAX_IMAGE_BYTES + 1)},
            f"init_image has {MAX_IMAGE_BYTES + 1} bytes: at most {MAX_IMAGE_BYTES}",
        ),
    ],
)
def test_what_is_refused_says_why(client: TestClient, fields: dict[str, Any], message: str) -> None:
    answer = send(client, **fields)
    assert answer.status_code == 422
    assert message in answer.json()["error"]["message"]


def test_a_field_that_is_sent_twice_is_refused(client: TestClient) -> None:
    answer = client.post("/generate", files=[("prompt", (None, "one")), ("prompt", (None, "two"))])
    assert answer.status_code == 422
    assert answer.json()["error"]["message"] == "prompt: is sent more than once"


def test_a_broken_form_cannot_be_read(client: TestClient) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post("/generate", content=b"--y\r\n", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_request"


def test_a_form_larger_than_any_picture_is_refused(client: TestClient) -> None:
    answer = send(client, prompt=PROMPT, init_image=b"\0" * 14_000_000)
    assert answer.status_code == 413

"""The real `openai` package against the service on a socket."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from fastapi import FastAPI
from openai import OpenAI
from PIL import Image

from models.catalog import Catalog
from models.engine import LocalEngine
from tests.api.pictures import file_of
from tests.api.scripted import ScriptedEngine
from tests.api.waiting import in_background, wait_until
from tests.tiny import add_upscaler

PROMPT = "a photo of a beagle dog"


@pytest.fixture(scope="module")
def client(live: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{live}/v1", api_key="none", max_retries=0) as client:
        yield client


def picture_of(data: str | None) -> Image.Image:
    assert data is not None
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_prompt_alone_gives_a_png_of_the_models_size(client: OpenAI) -> None:
    answer = client.images.generate(prompt=PROMPT)
    assert answer.data is not None
    [image] = answer.data
    assert image.url is None
    picture = picture_of(image.b64_json)
    assert (picture.format, picture.size) == ("PNG", (32, 32))
    assert picture.text["parameters"].startswith(PROMPT)  # type: ignore[attr-defined]
    assert (answer.size, answer.output_format, answer.background) == ("32x32", "png", "opaque")


def test_links_can_be_fetched_in_the_format_and_size_asked_for(client: OpenAI) -> None:
    answer = client.images.generate(
        prompt=PROMPT,
        model="rex",
        n=2,
        size="48x64",
        response_format="url",
        output_format="webp",
        quality="high",
        user="somebody",
    )
    assert answer.data is not None
    assert len({image.url for image in answer.data}) == 2
    for image in answer.data:
        assert image.url is not None and image.b64_json is None
        got = httpx.get(image.url)
        assert got.headers["content-type"] == "image/webp"
        assert Image.open(io.BytesIO(got.content)).size == (48, 64)


def test_twice_the_native_size_is_drawn_small_and_enlarged(address: str, catalog: Catalog) -> None:
    add_upscaler(catalog)
    client = OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
    answer = client.images.generate(prompt=PROMPT, size="64x64", output_format="png")  # type: ignore[call-overload]
    assert answer.data is not None and answer.data[0].b64_json is not None
    picture = Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json)))
    assert (answer.size, picture.size) == ("64x64", (64, 64))
    assert "Size: 32x32, Hires upscale: 2, " in picture.text["parameters"]  # type: ignore[attr-defined]


def test_settings_of_stable_diffusion_stand_beside_openais(client: OpenAI, live: str) -> None:
    settings = {
        "negative_prompt": "blurry",
        "steps": 3,
        "guidance_scale": 2.5,
        "seed": 42,
        "scheduler": "euler",
    }
    answer = client.images.generate(prompt=PROMPT, extra_body=settings)
    ours = httpx.post(f"{live}/generate", json={"prompt": PROMPT, **settings}).json()
    assert answer.data is not None
    said = picture_of(answer.data[0].b64_json)
    stored = Image.open(io.BytesIO(httpx.get(live + ours["images"][0]["url"]).content))
    assert said.text == stored.text  # type: ignore[attr-defined]
    assert said.tobytes() == stored.tobytes()


def test_a_stream_sends_partial_pictures_then_the_whole_one(client: OpenAI) -> None:
    stream = client.images.generate(
        prompt=PROMPT,
        stream=True,
        partial_images=2,
        output_format="png",
        size="32x32",
        extra_body={"steps": 9},
    )
    events = list(stream)
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    for number, event in enumerate(events[:2]):
        assert event.type == "image_generation.partial_image"
        assert event.partial_image_index == number
    for event in events:
        picture = picture_of(event.b64_json)
        assert (picture.format, picture.size, event.size) == ("PNG", (32, 32), "32x32")
    assert "Steps: 9" in picture.text["parameters"]  # type: ignore[attr-defined]


def test_a_stream_that_is_left_cancels_the_work(address: str, engine: LocalEngine) -> None:
    with OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        long = {"steps": 150}
        with client.images.generate(
            prompt=PROMPT, n=8, stream=True, partial_images=3, extra_body=long
        ) as stream:
            next(iter(stream))
            assert engine.describe().running == 1
        wait_until(lambda: engine.describe().running == 0, seconds=5.0)
    assert engine.describe().counters.ended["cancelled"] == 1


def test_an_edit_starts_from_the_picture(client: OpenAI, tmp_path: Path) -> None:
    red = tmp_path / "red.png"
    red.write_bytes(file_of(Image.new("RGB", (64, 64), "red")))
    settings = {"strength": 0.02, "seed": 1, "steps": 50}
    near = client.images.edit(image=red, prompt=PROMPT, size="32x32", extra_body=settings)
    listed = client.images.edit(
        image=[red], prompt=PROMPT, output_format="jpeg", extra_body=settings | {"strength": 1}
    )
    assert near.data is not None and listed.data is not None
    close, far = picture_of(near.data[0].b64_json), picture_of(listed.data[0].b64_json)
    assert "Denoising strength: 0.02" in close.text["parameters"]  # type: ignore[attr-defined]
    assert (far.format, far.size) == ("JPEG", (32, 32))


def test_an_edit_can_be_streamed(client: OpenAI) -> None:
    stream = client.images.edit(
        image=("dog.jpg", file_of(Image.new("RGB", (40, 32), "tan"), "JPEG")),
        prompt=PROMPT,
        stream=True,
        partial_images=1,
        extra_body={"steps": 8, "strength": 1.0},
    )
    types = [event.type for event in stream]
    assert types == ["image_edit.partial_image", "image_edit.completed"]


def test_models_are_listed_and_told(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["rex", "tiny"]
    model = client.models.retrieve("rex")
    assert (model.id, model.object, model.created) == ("rex", "model", 1767225600)


@pytest.mark.parametrize(
    ("fields", "kind", "param", "code", "message"),
    [
        ({"n": 17}, openai.BadRequestError, "n", "invalid_request", "n 17: Input should be"),
        ({"size": "big"}, openai.BadRequestError, "size", "invalid_request", "size 'big': "),
        ({"size": "40x40"}, openai.BadRequestError, None, "invalid_request", "width 40: the model"),
        ({"size": "4096x64"}, openai.BadRequestError, None, "invalid_request", "width 4096: "),
        ({"prompt": ""}, openai.BadRequestError, "prompt", "invalid_request", "prompt '': "),
        ({"model": "dall-e-3"}, openai.NotFoundError, None, "model_not_found", "no model is call"),
        ({"extra_body": {"steps": "9"}}, openai.BadRequestError, "steps", None, "steps '9': "),
    ],
)
def test_errors_come_as_openais(
    client: OpenAI,
    fields: dict[str, object],
    kind: type[openai.APIStatusError],
    param: str | None,
    code: str | None,
    message: str,
) -> None:
    with pytest.raises(kind) as caught:
        client.images.generate(**({"prompt": PROMPT} | fields))  # type: ignore[call-overload]
    error = caught.value
    assert isinstance(error.body, dict)
    assert error.body["message"].startswith(message)
    assert set(error.body) == {"message", "type", "param", "code"}
    assert (error.type, error.param) == ("invalid_request_error", param)
    assert error.code == (code or "invalid_request")
    assert error.request_id


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask": file_of(Image.new("RGB", (8, 8)))}, "mask: is not supported"),
        ({"image": [file_of(Image.new("RGB", (8, 8)))] * 2}, "image[] "),
        ({"image": []}, "image: one picture is needed, not 0"),
        ({"image": b"no picture"}, "init_image 'data:image/png;base64,bm8gcGljdHVyZQ==' is no"),
    ],
)
def test_pictures_that_cannot_be_edited_are_refused(
    client: OpenAI, fields: dict[str, object], message: str
) -> None:
    asked = {"prompt": PROMPT, "image": file_of(Image.new("RGB", (8, 8)))} | fields
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(**asked)  # type: ignore[call-overload]
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["message"].startswith(message)


def test_a_cancelled_stream_ends_with_openais_error(
    scripted_address: str, scripted: ScriptedEngine, scripted_app: FastAPI
) -> None:
    def listen() -> list[str]:
        with OpenAI(base_url=f"{scripted_address}/v1", api_key="none", max_retries=0) as client:
            return [event.type for event in client.images.generate(prompt=PROMPT, stream=True)]

    listening = in_background(listen)
    scripted.handle(0).cancel()
    with pytest.raises(openai.APIError, match="was cancelled"):
        listening.result(30)

import io
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import ExifTags, Image, ImageChops

from models.catalog import Catalog
from tests.api.pictures import data_url, file_of
from tests.api.scripted import ScriptedEngine
from tests.tiny import add_upscaler

PROMPT = "un perro golden retriever en la playa"


def draw(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/generate", json={"prompt": PROMPT, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_prompt_alone_is_enough(client: TestClient) -> None:
    answer = draw(client)
    assert answer["model"] == "tiny"
    assert answer["prompt"] == PROMPT
    assert answer["parameters"] == {
        "negative_prompt": "",
        "steps": 2,
        "guidance_scale": 4.0,
        "scheduler": "ddim",
        "width": 32,
        "height": 32,
        "upscale": 1,
        "strength": None,
    }
    [image] = answer["images"]
    assert image["url"] == f"/images/{image['id']}"
    assert (image["width"], image["height"], image["format"]) == (32, 32, "png")
    assert 0 <= image["seed"] < 2**32
    assert answer["seconds"] >= image["seconds"] > 0


def test_every_parameter_is_used(client: TestClient) -> None:
    asked = {
        "negative_prompt": "blurry",
        "steps": 3,
        "guidance_scale": 2.5,
        "scheduler": "euler_ancestral",
        "width": 48,
        "height": 64,
    }
    answer = draw(client, model="rex", seed=3, format="webp", **asked)
    assert answer["model"] == "rex"
    assert answer["parameters"] == {**asked, "upscale": 1, "strength": None}
    picture = Image.open(io.BytesIO(client.get(answer["images"][0]["url"]).content))
    assert (picture.size, picture.format) == ((48, 64), "WEBP")


def test_an_upscaled_picture_is_larger_and_says_so(own_app: FastAPI, catalog: Catalog) -> None:
    with TestClient(own_app) as client:
        refused = client.post("/generate", json={"prompt": PROMPT, "upscale": 2})
        assert (refused.status_code, "has no upscaler" in refused.text) == (422, True)
        add_upscaler(catalog)
        assert [m["upscale"] for m in client.get("/models").json()["models"]] == [2, 2]
        answer = draw(client, upscale=2, width=16)
        assert (answer["parameters"]["width"], answer["parameters"]["upscale"]) == (16, 2)
        [image] = answer["images"]
        assert (image["width"], image["height"]) == (32, 64)
        picture = Image.open(io.BytesIO(client.get(image["url"]).content))
        assert picture.size == (32, 64)
        assert "Size: 16x32, Hires upscale: 2, " in picture.text["parameters"]  # type: ignore[attr-defined]


def test_the_same_seed_gives_the_same_bytes(client: TestClient) -> None:
    ids = {draw(client, seed=seed)["images"][0]["id"] for seed in (9, 9, 10)}
    assert len(ids) == 2
    accept = {"Accept": "image/png"}
    bodies = [
        client.post("/generate", json={"prompt": PROMPT, "seed": 9}, headers=accept).content
        for _ in range(2)
    ]
    assert bodies[0] == bodies[1]


def test_a_picture_to_start_from_shapes_the_answer(client: TestClient) -> None:
    red, blue = (data_url(file_of(Image.new("RGB", (64, 48), name))) for name in ("red", "blue"))
    drawn = draw(client, seed=1, init_image=red, strength=0.5)
    assert drawn["parameters"]["strength"] == 0.5
    ids = {draw(client, seed=1)["images"][0]["id"], drawn["images"][0]["id"]}
    ids.add(draw(client, seed=1, init_image=blue, strength=0.5)["images"][0]["id"])
    assert len(ids) == 3


def test_the_engine_gets_what_was_asked(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    """Transparent, sideways, too large: the engine gets an upright RGB picture of a fit size."""
    picture = data_url(file_of(Image.new("RGBA", (400, 200))))
    body = {"prompt": PROMPT, "init_image": picture, "strength": 0.5, "preview_every": 3}
    assert scripted_client.post("/generations", json=body | {"timeout": 5.5}).status_code == 202
    request = scripted.handle(0).request
    assert (request.init_image.mode, request.init_image.size) == ("RGB", (128, 64))
    assert (request.strength, request.preview_every, request.timeout) == (0.5, 3, 5.5)
    scripted_client.post("/generations", json={"prompt": PROMPT})
    assert scripted.handle(1).request.timeout == 600


def test_seeds_are_drawn_anew_when_left_out(client: TestClient) -> None:
    assert draw(client)["images"][0]["seed"] != draw(client)["images"][0]["seed"]


def test_n_pictures_count_up_from_the_seed_and_wrap(client: TestClient) -> None:
    images = draw(client, seed=2**32 - 1, n=3)["images"]
    assert [image["seed"] for image in images] == [2**32 - 1, 0, 1]
    alone = draw(client, seed=0)["images"][0]
    pictures = [
        Image.open(io.BytesIO(client.get(one["url"]).content)) for one in (images[1], alone)
    ]
    # In company the rounding may differ.
    assert max(high for _, high in ImageChops.difference(*pictures).getextrema()) <= 2


def test_the_stored_picture_carries_its_parameters(client: TestClient) -> None:
    [image] = draw(client, seed=5, negative_prompt="niño")["images"]
    text = Image.open(io.BytesIO(client.get(image["url"]).content)).text["parameters"]
    assert text.startswith(
        f"{PROMPT}\nNegative prompt: niño\nSteps: 2, Sampler: DDIM, CFG scale: 4, Seed: 5, "
        "Size: 32x32, Model: tiny, Version: dogbooth "
    )


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("image/png", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("image/webp", "image/webp"),
        ("image/*", "image/png"),
        ("application/json;q=0.5, image/jpeg", "image/jpeg"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("image/png;q=0, */*", "application/json"),
        ("text/html, image/webp;q=0.9, */*;q=0.8", "image/webp"),
    ],
)
def test_the_accept_header_chooses_the_answer(client: TestClient, accept: str, media: str) -> None:
    answer = client.post("/generate", json={"prompt": PROMPT}, headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media
    if media.startswith("image/"):
        assert Image.MIME[Image.open(io.BytesIO(answer.content)).format] == media


def test_a_picture_answer_says_its_id_and_seed(client: TestClient) -> None:
    answer = client.post(
        "/generate", json={"prompt": PROMPT, "seed": 4}, headers={"Accept": "image/jpeg"}
    )
    picture_id = answer.headers["x-image-id"]
    assert answer.headers["x-seed"] == "4"
    assert answer.headers["content-disposition"] == f'inline; filename="{picture_id}.jpeg"'
    assert client.get(f"/images/{picture_id}").content == answer.content
    comment = Image.open(io.BytesIO(answer.content)).getexif().get_ifd(ExifTags.IFD.Exif)
    assert PROMPT in comment[ExifTags.Base.UserComment][8:].decode("utf-16-be")


def test_a_breed_that_the_model_does_not_know_is_a_warning(client: TestClient) -> None:
    warning = "the model 'tiny' was not trained on the breed 'pug': it draws a dog"
    assert draw(client, prompt="a photo of a pug dog")["warnings"] == [warning]
    assert draw(client, prompt="a photo of a pug dog", model="rex")["warnings"] == []
    assert draw(client, prompt="a beagle dog", model="rex")["warnings"] == []

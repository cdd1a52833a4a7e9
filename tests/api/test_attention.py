"""Heat maps of the words, for generations that asked for them."""

import io
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.api.waiting import DOG, start, state_once

WATCHED: dict[str, Any] = DOG | {"attention": True, "guidance_scale": 3.0, "model": "rex"}


def test_a_finished_generation_links_to_a_heat_map_of_each_word(client: TestClient) -> None:
    path = start(client, WATCHED | {"n": 2, "format": "webp"})
    images = state_once(client, path, "finished")["answer"]["images"]
    for image in images:
        assert [each["word"] for each in image["attention"]] == ["a", "dog"]
        assert all(0 < each["share"] < 1 for each in image["attention"])
        for each in image["attention"]:
            answer = client.get(each["url"])
            assert answer.headers["content-type"] == "image/webp"
            assert Image.open(io.BytesIO(answer.content)).size == (32, 32)
    ids = {each["id"] for image in images for each in [image, *image["attention"]]}
    assert len(ids) == 6


def test_without_being_asked_there_is_none_and_the_picture_is_the_same(client: TestClient) -> None:
    [watched] = client.post("/generate", json=WATCHED).json()["images"]
    [plain] = client.post("/generate", json=WATCHED | {"attention": False}).json()["images"]
    assert plain["attention"] == []
    assert plain["id"] == watched["id"]


@pytest.fixture
def own(own_app: Any) -> Any:
    with TestClient(own_app) as client:
        yield client


def test_heat_maps_go_with_their_generation(own: TestClient) -> None:
    path = start(own, WATCHED)
    [image] = state_once(own, path, "finished")["answer"]["images"]
    assert own.delete(path).status_code == 204
    assert [own.get(each["url"]).status_code for each in image["attention"]] == [404, 404]


def test_a_heat_map_that_is_removed_is_gone_from_the_answer(own: TestClient) -> None:
    path = start(own, WATCHED)
    [image] = state_once(own, path, "finished")["answer"]["images"]
    first, second = image["attention"]
    assert own.delete(first["url"]).status_code == 204
    [left] = own.get(path).json()["answer"]["images"]
    assert left["id"] == image["id"]
    assert left["attention"] == [second]

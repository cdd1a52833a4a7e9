from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.pictures import PictureStore


@pytest.fixture(scope="module")
def picture_id(client: TestClient) -> str:
    return client.post("/generate", json={"prompt": "a dog", "seed": 1}).json()["images"][0]["id"]


def test_a_picture_is_served_to_be_cached_for_ever(client: TestClient, picture_id: str) -> None:
    answer = client.get(f"/images/{picture_id}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["etag"] == f'"{picture_id}"'
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-disposition"] == f'inline; filename="{picture_id}.png"'


def test_a_copy_that_is_still_good_is_304(client: TestClient, picture_id: str) -> None:
    answer = client.get(f"/images/{picture_id}", headers={"If-None-Match": f'"{picture_id}"'})
    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize("wrong", ["0" * 32, "..%2F..%2Fetc%2Fpasswd", "A" * 32, "x"])
def test_other_ids_are_404(client: TestClient, wrong: str) -> None:
    answer = client.get(f"/images/{wrong}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_equal_bytes_are_stored_once(tmp_path: Path) -> None:
    store = PictureStore(tmp_path / "images")
    assert store.save(b"dog", "png") == store.save(b"dog", "png")
    assert [path.suffix for path in (tmp_path / "images").iterdir()] == [".png"]

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.pictures import PictureFile, PictureStore


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
    for copies in (f'"{picture_id}"', f'W/"{picture_id}"', f'"other", "{picture_id}"', "*"):
        answer = client.get(f"/images/{picture_id}", headers={"If-None-Match": copies})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == f'"{picture_id}"'


def test_another_copy_is_no_good(client: TestClient, picture_id: str) -> None:
    answer = client.get(f"/images/{picture_id}", headers={"If-None-Match": '"other"'})
    assert (answer.status_code, len(answer.content) > 0) == (200, True)


@pytest.mark.parametrize("wrong", ["0" * 32, "..%2F..%2Fetc%2Fpasswd", "A" * 32, "x"])
def test_other_ids_are_404(client: TestClient, wrong: str) -> None:
    answer = client.get(f"/images/{wrong}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_equal_bytes_are_stored_once(tmp_path: Path) -> None:
    store = PictureStore(tmp_path / "images")
    for _ in range(2):
        store.save(PictureFile("png", b"dog"))
    assert [path.suffix for path in (tmp_path / "images").iterdir()] == [".png"]

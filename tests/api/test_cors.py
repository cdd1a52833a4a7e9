"""Web pages of other origins."""

from pathlib import Path

from fastapi.testclient import TestClient

from tests.api.conftest import make_settings, scripted_service

PAGE = {"Origin": "https://dogs.example"}
ASKS_FIRST = {**PAGE, "Access-Control-Request-Method": "POST"}


def test_without_a_setting_no_other_page_may_ask(scripted_client: TestClient) -> None:
    answers = [
        scripted_client.get("/breeds", headers=PAGE),
        scripted_client.options("/generate", headers=ASKS_FIRST),
    ]
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_pages_of_the_named_origins_may_ask(shared_home: Path) -> None:
    settings = make_settings(shared_home, cors_origins="https://dogs.example, https://b.example")
    with scripted_service(settings) as (client, _):
        first = client.options("/generate", headers=ASKS_FIRST)
        assert first.status_code == 200
        assert first.headers["access-control-allow-origin"] == "https://dogs.example"
        answer = client.get("/nothing", headers=PAGE)
        assert answer.headers["access-control-allow-origin"] == "https://dogs.example"
        assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
        other = client.get("/breeds", headers={"Origin": "https://cats.example"})
        assert "access-control-allow-origin" not in other.headers

"""Swagger UI at /docs: it works, and asks nobody but the service."""

from playwright.sync_api import expect

from tests.api.page.conftest import OpenPage


def test_the_docs_come_from_the_service_alone(open_page: OpenPage, service: str) -> None:
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{service}/docs")
    expect(page.get_by_role("heading", name="dogbooth")).to_be_visible()
    page.get_by_role("button", name="POST /generate Make pictures").click()
    page.get_by_role("button", name="Try it out").click()
    expect(page.get_by_role("button", name="Execute")).to_be_visible()
    assert f"{service}/openapi.json" in asked
    assert not [url for url in asked if not url.startswith((service, "data:", "blob:"))]

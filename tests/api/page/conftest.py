"""The page in a real Chromium, on a real service with a tiny base."""

import base64
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect, sync_playwright

from tests.api.conftest import live_service, make_settings
from tests.api.trained import photo

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 30_000
"""Milliseconds that a busy machine may take; a page that works is far quicker."""

DROP = """(zone, files) => {
  const carried = new DataTransfer();
  for (const {name, type, base64} of files) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    carried.items.add(new File([bytes], name, {type}));
  }
  for (const kind of ["dragenter", "dragover", "drop"]) {
    zone.dispatchEvent(new DragEvent(kind, {dataTransfer: carried, bubbles: true}));
  }
}"""

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; ends with its file, as its loop would be in the way of others' tests."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium is installed (on Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Path:
    """What `service` serves."""
    home = tmp_path_factory.mktemp("page")
    copytree(tiny_models, home / "models")
    return home


@pytest.fixture(scope="module")
def service(home: Path) -> Iterator[str]:
    """Where the service listens that the tests of a file share; `tiny` and `rex` draw."""
    with live_service(make_settings(home)) as address:
        yield address


@pytest.fixture
def open_page(browser: Browser, service: str) -> Iterator[OpenPage]:
    """Open the page in a context of its own; what it logs as an error fails the test."""
    contexts = []
    complaints: list[str] = []

    def open_page(address: str = service, view: str = "", **context: Any) -> Page:
        context.setdefault("locale", "en-US")
        contexts.append(browser.new_context(**context))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        page.goto(f"{address}/{view}")
        return page

    expect.set_options(timeout=PATIENCE)
    yield open_page
    for context in contexts:
        context.close()
    unexpected = [said for said in complaints if "Failed to load resource" not in said]
    assert unexpected == [], "the browser complained"


@pytest.fixture
def empty_album(service: str) -> None:
    """Removes every generation of the tests before; one that still runs is cancelled first."""
    while left := httpx.get(f"{service}/generations?limit=100").json()["generations"]:
        for generation in left:
            httpx.delete(f"{service}/generations/{generation['id']}").raise_for_status()


def draw(page: Page, prompt: str, **fields: Any) -> None:
    """Ask for a picture, as with a mouse."""
    page.get_by_label("Describe the picture").fill(prompt)
    settings = page.locator("#draw-form details.settings")
    if fields and settings.get_attribute("open") is None:
        settings.locator("summary").click()
    for name, value in fields.items():
        page.locator(f"#{name}").fill(str(value))
    page.get_by_role("button", name="Draw it").click()


def photos(count: int) -> list[FilePayload]:
    """Photos as files."""
    return [
        {"name": f"{seed}.png", "mimeType": "image/png", "buffer": photo(seed)}
        for seed in range(count)
    ]


def drop(zone: Locator, files: list[FilePayload]) -> None:
    """Let go of files above a place of the page, as with a mouse."""
    carried = [
        {
            "name": file["name"],
            "type": file["mimeType"],
            "base64": base64.b64encode(file["buffer"]).decode(),
        }
        for file in files
    ]
    zone.evaluate(DROP, carried)

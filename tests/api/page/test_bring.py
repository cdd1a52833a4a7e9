"""Bringing a model with the page: a file is sent, checked, and draws."""

import re
from pathlib import Path

import httpx
from playwright.sync_api import FilePayload, Page, expect

from models.manifest import ADAPTER_FILE
from tests.api.page.conftest import OpenPage, drop

SLOW = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 500_000}
"""Bytes a second, as Chromium's network emulation takes them."""


def payload(name: str, content: bytes) -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def bring(page: Page) -> None:
    page.get_by_role("button", name="Bring it").click()


def test_a_dropped_lora_draws(open_page: OpenPage, home: Path, service: str) -> None:
    page = open_page(view="#teach")
    expect(page.locator("#bring-base option")).to_have_count(2)
    lora = (home / "models" / "rex" / ADAPTER_FILE).read_bytes()
    drop(page.locator("#bring-drop"), [payload("My Dog.safetensors", lora)])
    expect(page.locator("#model-file-name")).to_have_text("My Dog.safetensors")
    expect(page.locator("#bring-name")).to_have_value("my-dog")
    page.locator("#bring-base").select_option("tiny")
    bring(page)
    expect(page.locator("#bring-status")).to_have_text("my-dog is there and draws.")
    use = page.get_by_role("button", name="Make a picture with my-dog")
    expect(use).to_be_focused()
    use.click()
    expect(page.get_by_role("radio", name=re.compile("^my-dog"))).to_be_checked()
    assert httpx.get(f"{service}/models/my-dog").json()["base"] == "tiny"


def test_a_file_that_is_refused_says_why(open_page: OpenPage, service: str) -> None:
    page = open_page(view="#teach", locale="es-ES")
    file = payload("evil.safetensors", b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    page.locator("#model-file").set_input_files([file])
    page.get_by_role("button", name="Traerlo").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Este archivo no se puede tomar.")
    expect(alert).to_contain_text("evil.safetensors")
    expect(page.get_by_role("button", name="Traerlo")).to_be_enabled()
    assert httpx.get(f"{service}/models/evil").status_code == 404


def test_what_is_missing_is_said_at_its_field(open_page: OpenPage) -> None:
    page = open_page(view="#teach")
    bring(page)
    expect(page.get_by_role("alert")).to_contain_text("File: is needed")
    expect(page.locator("#model-file")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#bring-name")).to_have_attribute("aria-invalid", "true")


def test_a_large_file_shows_its_progress_and_can_be_stopped(open_page: OpenPage) -> None:
    page = open_page(view="#teach")
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", SLOW)
    page.locator("#model-file").set_input_files([payload("large.safetensors", b"0" * 10_000_000)])
    bring(page)
    expect(page.locator("#bring-text")).to_have_text(re.compile(r"\d+ % is sent"))
    bar = page.locator("#bring-bar")
    assert 0 < float(bar.get_attribute("value") or 0) < 1
    page.get_by_role("button", name="Stop").click()
    expect(bar).to_be_hidden()
    expect(page.get_by_role("button", name="Bring it")).to_be_focused()
    expect(page.get_by_role("alert")).to_have_count(0)

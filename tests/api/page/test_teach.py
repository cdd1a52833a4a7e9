"""Teaching with the page: photos become a training, the training a model that draws."""

import base64
import re
from typing import Any

import httpx
from playwright.sync_api import FilePayload, Page, expect

from tests.api.page.conftest import OpenPage
from tests.api.trained import photo

LONG = 180_000
"""Milliseconds for a training: its process imports torch first."""
DROP = """(zone, photos) => {
  const carried = new DataTransfer();
  for (const {name, base64} of photos) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    carried.items.add(new File([bytes], name, {type: "image/png"}));
  }
  for (const kind of ["dragenter", "dragover", "drop"]) {
    zone.dispatchEvent(new DragEvent(kind, {dataTransfer: carried, bubbles: true}));
  }
}"""


def files(count: int) -> list[FilePayload]:
    return [
        {"name": f"{seed}.png", "mimeType": "image/png", "buffer": photo(seed)}
        for seed in range(count)
    ]


def drop(page: Page, count: int) -> None:
    """Let go of photos above the page, as with a mouse."""
    photos = [
        {"name": f"{seed}.png", "base64": base64.b64encode(photo(seed)).decode()}
        for seed in range(count)
    ]
    page.locator("#drop").evaluate(DROP, photos)


def start(page: Page, name: str, **fields: Any) -> None:
    page.get_by_label("Its name").fill(name)
    page.get_by_role("radio", name="Quick look").check()
    page.locator("#teach-form summary").click()
    page.locator("#base").select_option("tiny")
    for field, value in fields.items():
        page.locator(f"#training-{field}").fill(str(value))
    page.get_by_role("button", name="Start the training").click()


def test_three_dropped_photos_become_a_model_that_draws(open_page: OpenPage, service: str) -> None:
    page = open_page(view="#teach")
    expect(page.get_by_text("No training yet.")).to_be_visible()
    drop(page, 3)
    expect(page.locator("#photo-count")).to_have_text("3 photos")
    start(page, "fido")
    run = page.get_by_role("article", name="fido")
    expect(run.locator(".state").first).to_have_text(
        re.compile(r"Learning: step \d+ of 120"), timeout=LONG
    )
    expect(page.locator("#photo-list li")).to_have_count(0)
    expect(run.get_by_role("progressbar", name="Training of fido")).to_be_visible()
    expect(run.locator(".samples img").first).to_have_js_property("naturalWidth", 66, timeout=LONG)
    expect(run.get_by_text("fido is learned")).to_be_visible(timeout=LONG)
    expect(run.get_by_role("img", name=re.compile("Loss by step: from"))).to_be_visible()
    expect(run.locator(".samples > div")).not_to_have_count(1)
    run.get_by_role("button", name="Make a picture with fido").click()
    expect(page.get_by_role("radio", name=re.compile("^fido"))).to_be_checked()
    expect(page.get_by_label("Describe the picture")).to_have_value("a photo of fido dog")
    page.get_by_role("button", name="Draw it").click()
    expect(page.locator("#prints button img")).to_have_js_property("naturalWidth", 32)
    [newest] = httpx.get(f"{service}/generations?limit=1").json()["generations"]
    assert (newest["model"], newest["state"]) == ("fido", "finished")
    page.goto(f"{service}/#teach")
    page.reload()
    expect(run.get_by_text("fido is learned")).to_be_visible()
    expect(run.get_by_role("img", name=re.compile("Loss by step: from"))).to_be_visible()


def test_a_training_is_stopped_and_goes_on(open_page: OpenPage) -> None:
    page = open_page(view="#teach")
    page.locator("#photos").set_input_files(files(3))
    start(page, "bella", steps=20000)
    run = page.get_by_role("article", name="bella")
    expect(run.locator(".state").first).to_have_text(re.compile("Learning: step"), timeout=LONG)
    run.get_by_role("button", name="Stop bella").click()
    expect(run.get_by_text("Stopped")).to_be_visible(timeout=LONG)
    run.get_by_role("button", name="Go on with bella").click()
    expect(run.locator(".state").first).to_have_text(re.compile("Learning: step"), timeout=LONG)
    run.get_by_role("button", name="Stop bella").click()
    expect(run.get_by_text("Stopped")).to_be_visible(timeout=LONG)


def test_each_photo_that_is_refused_says_why(open_page: OpenPage) -> None:
    page = open_page(view="#teach", locale="es-ES")
    small: FilePayload = {"name": "small.png", "mimeType": "image/png", "buffer": photo(9, 40)}
    text: FilePayload = {"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture"}
    page.locator("#photos").set_input_files([*files(2), small, text])
    page.get_by_label("Su nombre").fill("rayo")
    page.get_by_role("button", name="Empezar").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Algunas fotos no sirven.")
    expect(alert).to_contain_text("small.png: demasiado pequeña: 40x40, al menos 64 píxeles")
    bad = page.locator("#photo-list .bad")
    expect(bad).to_have_count(2)
    expect(bad.nth(1)).to_contain_text("no es una imagen")
    page.get_by_role("button", name="Quitar notes.png").click()
    expect(bad).to_have_count(1)


def test_too_few_photos_and_no_name_are_errors_at_their_fields(open_page: OpenPage) -> None:
    page = open_page(view="#teach")
    page.locator("#photos").set_input_files(files(2))
    expect(page.locator("#photo-count")).to_have_text("2 of at least 3 photos")
    page.get_by_role("button", name="Start the training").click()
    expect(page.get_by_role("alert")).to_contain_text("Its name: is needed")
    expect(page.get_by_label("Its name")).to_be_focused()
    page.get_by_label("Its name").fill("luna")
    page.get_by_role("button", name="Start the training").click()
    expect(page.get_by_role("alert")).to_contain_text("Photos: there are 2; at least 3 are needed")
    expect(page.locator("#photos")).to_have_attribute("aria-invalid", "true")

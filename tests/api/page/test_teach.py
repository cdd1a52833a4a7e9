"""Teaching with the page: photos become a training, the training a model that draws."""

import re
from pathlib import Path
from shutil import copytree
from typing import Any

import httpx
from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.api.page.conftest import OpenPage, drop, photos
from tests.api.trained import form, photo

LONG = 180_000
"""Milliseconds for a training: its process imports torch first."""


def start(page: Page, name: str, **fields: Any) -> None:
    page.get_by_label("Its name").fill(name)
    page.get_by_role("radio", name="Quick look").check()
    page.locator("#teach-form summary").click()
    page.locator("#base").select_option("tiny")
    for field, value in fields.items():
        page.locator(f"#training-{field}").fill(str(value))
    page.get_by_role("button", name="Start the training").click()


def teach_breeds(page: Page, name: str) -> None:
    """Begin a form that learns breeds of a dataset."""
    page.get_by_role("radio", name="a dataset of breeds").check()
    page.get_by_label("Name of the model").first.fill(name)


def stop_in_spanish(run: Locator, name: str) -> None:
    run.get_by_role("button", name=f"Parar {name}").click()
    expect(run.get_by_text("Parado")).to_be_visible(timeout=LONG)


def test_three_dropped_photos_become_a_model_that_draws(open_page: OpenPage, service: str) -> None:
    page = open_page(view="#teach")
    expect(page.get_by_text("No training yet.")).to_be_visible()
    drop(page.locator("#drop"), photos(3))
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
    page.locator("#photos").set_input_files(photos(3))
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
    page.locator("#photos").set_input_files([*photos(2), small, text])
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
    page.locator("#photos").set_input_files(photos(2))
    expect(page.locator("#photo-count")).to_have_text("2 of at least 3 photos")
    page.get_by_role("button", name="Start the training").click()
    expect(page.get_by_role("alert")).to_contain_text("Its name: is needed")
    expect(page.get_by_label("Its name")).to_be_focused()
    page.get_by_label("Its name").fill("luna")
    page.get_by_role("button", name="Start the training").click()
    expect(page.get_by_role("alert")).to_contain_text("Photos: there are 2; at least 3 are needed")
    expect(page.locator("#photos")).to_have_attribute("aria-invalid", "true")


def test_without_a_dataset_nothing_but_photos_is_offered(open_page: OpenPage) -> None:
    page = open_page(view="#teach")
    expect(page.locator("#base option")).to_have_count(2)
    expect(page.locator("#drop")).to_be_visible()
    expect(page.get_by_role("radio", name="a dataset of breeds")).to_be_hidden()


def test_breeds_of_a_dataset_are_taught(
    open_page: OpenPage, service: str, home: Path, two_breeds: Path
) -> None:
    copytree(two_breeds, home / "data" / "dogs")
    page = open_page(view="#teach")
    teach_breeds(page, "pugs")
    expect(page.locator("#drop")).to_be_hidden()
    page.get_by_role("button", name="Start the training").click()
    expect(page.get_by_role("alert")).to_contain_text("Breeds: is needed")
    page.get_by_role("checkbox", name="pug (6 photos)").check()
    expect(page.locator("#name-hint")).to_have_text("Later you write “a photo of a pug”.")
    page.get_by_role("button", name="Español").click()
    expect(page.get_by_role("checkbox", name="carlino (6 fotos)")).to_be_checked()
    page.get_by_role("button", name="Empezar").click()
    run = page.get_by_role("article", name="pugs")
    [training] = httpx.get(f"{service}/trainings?name=pugs").json()["trainings"]
    assert (training["breeds"], training["photos"]) == (["pug"], 0)
    expect(page.locator("#drop")).to_be_visible()
    stop_in_spanish(run, "pugs")


def test_breeds_of_cats_are_called_and_taught_as_their_dataset_says(
    open_page: OpenPage, service: str, home: Path, cats: Path
) -> None:
    copytree(cats, home / "data" / "cats")
    page = open_page(view="#teach")
    teach_breeds(page, "siamese")
    page.get_by_role("checkbox", name="Siamese (8 photos)").check()
    expect(page.locator("#name-hint")).to_have_text("Later you write “a photo of a Siamese”.")
    page.get_by_role("button", name="Español").click()
    expect(page.get_by_role("checkbox", name="siamés (8 fotos)")).to_be_checked()
    page.get_by_role("button", name="Empezar").click()
    run = page.get_by_role("article", name="siamese")
    [training] = httpx.get(f"{service}/trainings?name=siamese").json()["trainings"]
    assert (training["class"], training["breeds"]) == ("cat", ["Siamese"])
    stop_in_spanish(run, "siamese")


def test_a_training_that_has_ended_is_removed_after_a_second_thought(
    open_page: OpenPage, service: str
) -> None:
    path = httpx.post(f"{service}/trainings", **form("gone")).headers["location"]
    httpx.post(f"{service}{path}/cancel").raise_for_status()
    page = open_page(view="#teach")
    run = page.get_by_role("article", name="gone")
    run.get_by_role("button", name="Remove gone").click(timeout=LONG)
    assert httpx.get(f"{service}{path}").status_code == 200
    run.get_by_role("button", name="Really remove gone").click()
    expect(run).to_have_count(0)
    expect(page.locator("#runs-title")).to_be_focused()
    assert httpx.get(f"{service}{path}").status_code == 404

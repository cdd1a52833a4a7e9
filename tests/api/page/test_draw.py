"""Drawing with the page: from a sentence to a picture, and again."""

import re
from pathlib import Path

import httpx
from playwright.sync_api import FilePayload, Page, expect

from models.catalog import Catalog
from tests.api.page.conftest import OpenPage, draw, drop, photos
from tests.tiny import add_upscaler, publish_base


def preview(page: Page) -> str:
    """The data of the picture that is being made; empty before there is one."""
    image = page.locator(".developing img").first
    return (image.get_attribute("src") or "") if image.count() else ""


def test_a_picture_is_drawn_and_stays_in_the_album(open_page: OpenPage, empty_album: None) -> None:
    page = open_page()
    expect(page.get_by_text("Every picture you make is kept here")).to_be_visible()
    draw(page, "a photo of a beagle", seed=7)
    picture = page.get_by_role("button", name="Open: a photo of a beagle, seed 7")
    expect(picture).to_have_count(2)  # on the stage and in the album
    expect(picture.first.locator("img")).to_have_js_property("naturalWidth", 32)
    expect(page.locator("#stage-status")).to_have_text(re.compile(r"Done in [\d.]+ s"))
    page.reload()
    expect(page.locator("#album").get_by_role("button")).to_have_count(1)
    expect(page.get_by_text("Every picture you make is kept here")).to_be_hidden()


def test_progress_and_previews_are_shown_while_it_draws(open_page: OpenPage) -> None:
    page = open_page()
    draw(page, "a dog that takes its time", steps=150, n=4)
    bar = page.locator("#progress-bar")
    expect(page.locator("#progress-text")).to_have_text(re.compile(r"Step \d+ of 600"))
    expect(page.locator(".developing img[src^='data:image/jpeg']")).to_have_count(4)
    first, early = float(bar.get_attribute("value") or 0), preview(page)
    assert 0 < first < 1 and len(early) > 500
    expect(bar).not_to_have_attribute("value", str(first))
    expect(page.locator(".developing img").first).not_to_have_attribute("src", early)
    assert float(bar.get_attribute("value") or 1) > first
    page.get_by_role("button", name="Stop").click()


def test_stopping_cancels_the_generation(
    open_page: OpenPage, service: str, empty_album: None
) -> None:
    page = open_page()
    draw(page, "a dog that is stopped", steps=150, n=8)
    expect(page.locator(".developing")).to_have_count(8)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#stage-status")).to_have_text("Stopped. Nothing was kept.")
    expect(page.get_by_role("button", name="Draw it")).to_be_enabled()
    expect(page.get_by_text("Your picture appears here")).to_be_visible()
    [generation] = httpx.get(f"{service}/generations").json()["generations"]
    assert generation["state"] == "cancelled"


def test_a_tab_that_is_loaded_anew_goes_on_watching(open_page: OpenPage) -> None:
    page = open_page()
    draw(page, "a dog that outlives its page", steps=150, n=4)
    expect(page.locator("#progress-text")).to_have_text(re.compile("Step"))
    page.reload()
    expect(page.locator("#progress-text")).to_have_text(re.compile("Step"))
    expect(page.locator("#prints button")).to_have_count(4)


def test_a_picture_that_is_done_before_its_tab_comes_back_is_listed_once(
    open_page: OpenPage, service: str, empty_album: None
) -> None:
    page = open_page()
    draw(page, "a dog seen once")
    expect(page.locator("#prints button")).to_have_count(1)
    [generation] = httpx.get(f"{service}/generations").json()["generations"]
    page.evaluate("(id) => sessionStorage.setItem('dogbooth.running', id)", generation["id"])
    page.reload()
    expect(page.locator("#prints button")).to_have_count(1)
    expect(page.locator("#album li")).to_have_count(1)


def test_again_with_these_draws_the_same_picture(
    open_page: OpenPage, service: str, empty_album: None
) -> None:
    page = open_page()
    page.get_by_role("radio", name=re.compile("rex")).check()
    draw(page, "a photo of a pug", seed=5, steps=3, guidance_scale=2.5, width=64, height=32)
    expect(page.locator("#prints button")).to_have_count(1)
    page.reload()
    page.locator("#album button").click()
    dialog = page.get_by_role("dialog", name="a photo of a pug")
    facts = dialog.locator("dl").inner_text().split("\n")
    assert facts[:12] == [
        *("Model", "rex", "Seed", "5", "Steps", "3"),
        *("Guidance", "2.5", "Sampler", "ddim", "Size", "64 × 32"),
    ]
    dialog.get_by_role("button", name="Again with these").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("radio", name=re.compile("rex"))).to_be_checked()
    expect(page.locator("#seed")).to_have_value("5")
    page.get_by_role("button", name="Draw it").click()
    expect(page.locator("#album li")).to_have_count(2)
    first, second = httpx.get(f"{service}/generations").json()["generations"]
    assert first["answer"]["parameters"] == second["answer"]["parameters"]
    assert first["answer"]["images"][0]["id"] == second["answer"]["images"][0]["id"]


def test_a_model_with_an_upscaler_offers_larger_pictures(
    open_page: OpenPage, home: Path, empty_album: None
) -> None:
    catalog = Catalog([home / "models"])
    publish_base(catalog, "large")
    add_upscaler(catalog, "large")
    page = open_page()
    page.locator("#draw-form details.settings summary").click()
    page.get_by_role("radio", name=re.compile("rex")).check()
    expect(page.get_by_label("Enlarged")).to_be_hidden()
    page.get_by_role("radio", name=re.compile("large")).check()
    page.get_by_label("Enlarged").select_option("2 ×")
    draw(page, "a photo of a beagle", seed=7)
    picture = page.locator("#prints img")
    expect(picture).to_have_js_property("naturalWidth", 64)
    page.get_by_role("radio", name=re.compile("rex")).check()
    page.get_by_role("button", name="Draw it").click()
    expect(page.locator("#album li")).to_have_count(2)
    expect(picture).to_have_js_property("naturalWidth", 32)
    page.locator("#album button").last.click()
    dialog = page.get_by_role("dialog", name="a photo of a beagle")
    expect(dialog.locator("dl")).to_contain_text("64 × 64")
    dialog.get_by_role("button", name="Again with these").click()
    expect(page.get_by_label("Enlarged")).to_have_value("2")
    catalog.remove("large")


def test_a_picture_is_removed_after_a_second_thought(
    open_page: OpenPage, service: str, empty_album: None
) -> None:
    page = open_page()
    draw(page, "a dog to be forgotten", seed=1)
    page.locator("#album button").click()
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("button", name="Really remove?").click()
    expect(page.locator("#album li")).to_have_count(0)
    [generation] = httpx.get(f"{service}/generations").json()["generations"]
    assert generation["answer"]["images"] == []


def test_older_pictures_come_page_by_page(
    open_page: OpenPage, service: str, empty_album: None
) -> None:
    for seed in range(25):
        body = {"prompt": f"dog {seed}", "seed": seed, "steps": 1}
        httpx.post(f"{service}/generate", json=body).raise_for_status()
    page = open_page()
    expect(page.locator("#album li")).to_have_count(24)
    page.get_by_role("button", name="Show older pictures").click()
    expect(page.locator("#album li")).to_have_count(25)
    expect(page.get_by_role("button", name="Show older pictures")).to_be_hidden()


def test_a_breed_is_found_by_either_name_and_put_into_the_prompt(open_page: OpenPage) -> None:
    page = open_page()
    breed = page.get_by_role("combobox", name="Breed")
    breed.fill("pastor alem")
    page.get_by_role("option", name="German shepherd").click()
    prompt = page.get_by_label("Describe the picture")
    expect(prompt).to_have_value("a photo of a German shepherd")
    prompt.fill("a German shepherd in the snow")
    breed.fill("airedale")
    page.get_by_role("option", name="Airedale").click()
    expect(prompt).to_have_value(re.compile("^a Airedale terrier in the snow$", re.IGNORECASE))


def test_the_breeds_that_the_model_knows_come_first(open_page: OpenPage) -> None:
    page = open_page()
    expect(page.get_by_role("radio")).not_to_have_count(0)
    page.get_by_role("combobox", name="Breed").click()
    options = page.locator("#breeds [role=option]")
    assert [text.split("tiny")[0] for text in options.all_inner_texts()[:2]] == [
        "beagle\n",
        "golden retriever\n",
    ]
    page.keyboard.press("Escape")
    page.get_by_role("radio", name=re.compile("rex")).check()
    page.get_by_role("combobox", name="Breed").click()
    expect(options.nth(2)).to_contain_text("pug")


def test_an_error_names_the_field_and_what_it_may_be(open_page: OpenPage) -> None:
    page = open_page()
    draw(page, "a dog", steps=1000)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("That cannot be drawn as asked.")
    expect(alert).to_contain_text("Steps 1000: should be less than or equal to 150")
    steps = page.locator("#steps")
    expect(steps).to_be_focused()
    expect(steps).to_have_attribute("aria-invalid", "true")
    steps.fill("2")
    page.get_by_role("button", name="Draw it").click()
    expect(alert).to_be_hidden()
    expect(steps).not_to_have_attribute("aria-invalid", "true")
    expect(page.locator("#prints button")).to_have_count(1)


def test_an_empty_description_is_an_error_in_words(open_page: OpenPage) -> None:
    page = open_page(locale="es-ES")
    page.get_by_role("button", name="Dibujar").click()
    expect(page.get_by_role("alert")).to_contain_text("Descripción: necesita al menos 1 carácter")
    expect(page.get_by_label("Describe la imagen")).to_be_focused()


def test_what_the_model_does_not_know_is_said(open_page: OpenPage) -> None:
    page = open_page()
    draw(page, "a photo of a Saint Bernard")
    expect(page.locator("#warnings")).to_contain_text("'Saint Bernard': it draws a dog")


def test_a_picture_of_ones_own_is_drawn_anew_and_taken_away_again(
    open_page: OpenPage, service: str, empty_album: None
) -> None:
    page = open_page()
    page.locator("#start").set_input_files(photos(1))
    shown = page.get_by_role("img", name="Starts from 0.png")
    expect(shown).to_have_js_property("naturalWidth", 96)
    expect(page.get_by_role("button", name="Start from nothing")).to_be_focused()
    page.get_by_role("slider", name="How much is drawn anew").fill("0.5")
    draw(page, "a photo of a pug", seed=3)
    expect(page.locator("#album li")).to_have_count(1)
    page.get_by_role("button", name="Start from nothing").click()
    expect(shown).to_be_hidden()
    expect(page.locator("#start")).to_be_focused()
    page.get_by_role("button", name="Draw it").click()
    expect(page.locator("#album li")).to_have_count(2)
    second, first = httpx.get(f"{service}/generations").json()["generations"]
    assert first["answer"]["parameters"]["strength"] == 0.5
    assert second["answer"]["parameters"]["strength"] is None
    page.locator("#album button").nth(1).click()
    page.get_by_role("button", name="Again with these").click()
    expect(page.locator("#strength")).to_have_value("0.5")
    expect(page.locator("#stage-status")).to_contain_text("add it again")


def test_a_dropped_file_that_is_no_picture_is_an_error_in_words(open_page: OpenPage) -> None:
    page = open_page(locale="es-ES")
    text: FilePayload = {"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture"}
    drop(page.locator("#start-drop"), [text])
    page.get_by_label("Describe la imagen").fill("un perro")
    page.get_by_role("button", name="Dibujar").click()
    said = "Imagen de partida: no es una imagen PNG, JPEG o WebP entera"
    expect(page.get_by_role("alert")).to_contain_text(said)
    expect(page.locator("#start")).to_have_attribute("aria-invalid", "true")

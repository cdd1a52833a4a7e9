"""Comparing with the page: two settings become one sheet."""

import re

import httpx
from playwright.sync_api import Page, expect

from tests.api.page.conftest import OpenPage


def ask(page: Page, prompt: str, **values: str) -> None:
    """Ask for a sheet, as with a mouse."""
    page.get_by_label("What they all show").fill(prompt)
    for axis, text in values.items():
        page.locator(f"#{axis}").fill(text)
    page.get_by_role("button", name="Draw the sheet").click()


def test_two_settings_become_a_sheet(open_page: OpenPage, service: str, empty_album: None) -> None:
    page = open_page(view="#grid")
    expect(page.locator("#x")).to_have_value("5, 10, 25")
    expect(page.locator("#y")).to_have_value("ddim, euler")
    expect(page.get_by_text("The sheet appears here")).to_be_visible()
    ask(page, "a photo of a beagle", x="1, 2")
    alt = "A sheet of pictures. Across: Steps: 1, Steps: 2. Down: Sampler: DDIM, Sampler: Euler."
    sheet = page.get_by_role("img", name=alt)
    expect(sheet).to_be_visible()
    assert sheet.evaluate("(image) => image.naturalWidth") > 2 * 32
    expect(page.locator("#grid-status")).to_have_text("The sheet of 4 pictures is done")
    expect(page.get_by_role("button", name="Draw the sheet")).to_be_focused()
    href = page.get_by_role("link", name="Save").get_attribute("href")
    assert (href or "").startswith("blob:")
    assert len(httpx.get(f"{service}/generations").json()["generations"]) == 4
    page.get_by_role("link", name="Draw", exact=True).click()
    expect(page.locator("#album li")).to_have_count(4)


def test_the_values_of_a_setting_are_offered_and_one_row_is_enough(open_page: OpenPage) -> None:
    page = open_page(view="#grid")
    expect(page.locator("#grid-model option")).to_have_count(3)
    page.locator("#x-name").select_option("model")
    expect(page.locator("#x")).to_have_value(re.compile("rex"))
    page.locator("#x-name").select_option("prompt")
    expect(page.locator("#x-hint")).to_have_text("One a line.")
    page.locator("#y-name").select_option("")
    expect(page.locator("#y")).to_be_hidden()
    ask(page, "a dog", x="a photo of a pug\na photo of a beagle, asleep")
    row = "A row of pictures: a photo of a pug, a photo of a beagle, asleep."
    expect(page.get_by_role("img", name=row)).to_be_visible()


def test_progress_is_shown_also_to_a_tab_that_is_loaded_anew_and_stopped(
    open_page: OpenPage,
) -> None:
    page = open_page(view="#grid")
    page.locator("#x-name").select_option("seed")
    page.locator("#y-name").select_option("steps")
    ask(page, "a dog", x=", ".join(map(str, range(30))), y="1, 149, 150")
    expect(page.locator("#grid-text")).to_have_text(re.compile(r"\d+ of 90 pictures"))
    page.reload()
    expect(page.locator("#grid-text")).to_have_text(re.compile(r"\d+ of 90 pictures"))
    assert 0 < float(page.locator("#grid-bar").get_attribute("value") or 0) < 1
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#grid-status")).to_have_text(re.compile("^Stopped"))
    expect(page.get_by_text("The sheet appears here")).to_be_visible()
    expect(page.get_by_role("button", name="Draw the sheet")).to_be_enabled()


def test_what_no_setting_takes_is_said_at_its_field(open_page: OpenPage) -> None:
    page = open_page(view="#grid")
    alert = page.get_by_role("alert")
    ask(page, "a dog", x="5, many")
    expect(alert).to_contain_text("Steps many: should be a valid integer")
    expect(page.locator("#x")).to_be_focused()
    ask(page, "a dog", x="")
    expect(alert).to_contain_text("Steps: at least 1 value is needed")
    page.locator("#y-name").select_option("steps")
    ask(page, "a dog", x="5")
    expect(alert).to_contain_text("Settings: both are steps")
    page.get_by_role("button", name="Español").click()
    page.get_by_role("button", name="Dibujar la hoja").click()
    expect(alert).to_contain_text("Ajustes: ambos son steps")

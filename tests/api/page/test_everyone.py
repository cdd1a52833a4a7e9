"""The page for everyone: two languages, keyboard, screen reader, phone, dark rooms, a key."""

import re
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.api.page.conftest import OpenPage, draw

PHONE = {"viewport": {"width": 375, "height": 740}, "is_mobile": True, "has_touch": True}
NAMED = {
    "button", "link", "textbox", "combobox", "radio", "spinbutton", "checkbox", "image", "img",
    "dialog", "progressbar", "ProgressIndicator", "progressIndicator", "listbox", "navigation",
    "region", "group", "DisclosureTriangle", "searchbox",
}  # fmt: skip
UNNAMED_GROUPS = {"group"}
"""<details> is a group without a name: its summary says it."""
CONTRAST = """() => {
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) =>
      v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const read = (color) => color.match(/[\\d.]+/g).map(Number);
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, a = 1] = read(getComputedStyle(at).backgroundColor);
      if (a > 0.99) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const poor = [];
  let count = 0;
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const disabled = element.closest(":disabled");
    if (!own || disabled || !element.checkVisibility() || element.closest(".unseen, svg")) continue;
    const style = getComputedStyle(element);
    const [a, b] = [luminance(read(style.color).slice(0, 3)), luminance(background(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    count += 1;
    if (ratio < 4.5) poor.push(`${element.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return {count, poor};
}"""


def ready(page: Page) -> Page:
    """The page once it knows what the service has."""
    expect(page.locator("#models input").first).to_be_visible()
    expect(page.locator("#ideas button").first).to_be_visible()
    return page


def nodes(page: Page) -> list[dict[str, Any]]:
    """What a screen reader is told, by Chromium itself."""
    session = page.context.new_cdp_session(page)
    tree = session.send("Accessibility.getFullAXTree")["nodes"]
    return [node for node in tree if not node["ignored"]]


def roles(page: Page) -> list[str]:
    return [node["role"]["value"] for node in nodes(page)]


def full_page(page: Page) -> None:
    """Everything that may be seen at once: settings, an error, a picture, the album."""
    ready(page)
    draw(page, "a photo of a beagle", steps=2)
    expect(page.locator("#prints button")).to_have_count(1)
    page.locator("#steps").fill("1000")
    page.locator("#draw-button").click()
    expect(page.locator("#draw-problem li")).to_be_visible()


def test_the_browser_chooses_the_language_and_a_button_the_other(open_page: OpenPage) -> None:
    page = ready(open_page(locale="es-MX"))
    assert page.locator("html").get_attribute("lang") == "es"
    expect(page.get_by_role("heading", level=1)).to_have_text("¿Qué perro quieres ver?")
    expect(page.locator("#ideas button").first).to_have_text("una foto de un beagle")
    page.get_by_role("button", name="English").click()
    assert page.locator("html").get_attribute("lang") == "en"
    expect(page.get_by_role("heading", level=1)).to_have_text("Which dog shall it be?")
    expect(page.locator("#ideas button").first).to_have_text("a photo of a beagle")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Which dog shall it be?")


def test_what_is_shown_already_changes_its_language(open_page: OpenPage) -> None:
    page = ready(open_page())
    draw(page, "a photo of a beagle", seed=3)
    expect(page.locator("#prints figcaption")).to_have_text("seed 3")
    page.get_by_role("button", name="Español").click()
    expect(page.locator("#prints figcaption")).to_have_text("semilla 3")
    expect(page.locator("#stage-status")).to_have_text(re.compile("Lista en"))


def test_a_picture_is_made_with_the_keyboard_alone(open_page: OpenPage) -> None:
    page = ready(open_page())
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Describe the picture")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("combobox", name="Breed")).to_be_focused()
    page.keyboard.type("golden")
    page.keyboard.press("ArrowDown")
    active = page.get_by_role("combobox", name="Breed").get_attribute("aria-activedescendant")
    expect(page.locator(f"#{active}")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Describe the picture")).to_have_value("a photo of a golden retriever")
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name=re.compile("^tiny"))).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("radio", name=re.compile("rex"))).to_be_checked()
    for _ in range(6):
        page.keyboard.press("Tab")
        if page.locator("#draw-button").evaluate("(button) => button === document.activeElement"):
            break
    outline = page.locator("#draw-button").evaluate("(e) => getComputedStyle(e).outlineWidth")
    assert outline == "3px"
    page.keyboard.press("Enter")
    expect(page.locator("#prints button")).to_have_count(1)
    expect(page.locator("#draw-button")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#prints button")).to_be_focused()


@pytest.mark.parametrize("view", ["#draw", "#grid", "#teach"])
def test_every_control_and_picture_has_a_name(open_page: OpenPage, view: str) -> None:
    page = open_page()
    full_page(page)
    page.goto(page.url.split("#")[0] + view)
    nameless = [
        node["role"]["value"]
        for node in nodes(page)
        if node["role"]["value"] in NAMED - UNNAMED_GROUPS
        and not node.get("name", {}).get("value", "").strip()
    ]
    found = roles(page)
    assert nameless == []
    assert {"button", "link", "textbox", "combobox"} <= set(found)


def test_the_landmarks_and_headings_stand_in_order(open_page: OpenPage) -> None:
    page = ready(open_page())
    found = roles(page)
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert found.count(landmark) == 1, landmark
    levels = page.locator("h1, h2, h3").evaluate_all(
        "(all) => all.filter((e) => e.checkVisibility()).map((e) => Number(e.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.locator("[role=status]").count() >= 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["#draw", "#grid", "#teach"])
def test_words_stand_out_in_light_and_dark(open_page: OpenPage, scheme: str, view: str) -> None:
    page = open_page(color_scheme=scheme)
    full_page(page)
    page.goto(page.url.split("#")[0] + view)
    seen = page.evaluate(CONTRAST)
    assert seen["count"] > 15
    assert seen["poor"] == []


def test_the_scheme_of_the_system_decides_on_light_or_dark(open_page: OpenPage) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        page = ready(open_page(color_scheme=scheme))
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        shades[scheme] = sum(map(int, re.findall(r"\d+", colour)))
    assert shades["light"] > 600 and shades["dark"] < 150


@pytest.mark.parametrize("view", ["#draw", "#grid", "#teach"])
def test_nothing_is_wider_than_a_phone(open_page: OpenPage, view: str) -> None:
    page = open_page(**PHONE)
    full_page(page)
    page.goto(page.url.split("#")[0] + view)
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    small = page.locator("button, a.button, input[type=text], select").evaluate_all(
        "(all) => all.filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 40)"
        ".map((e) => e.outerHTML)"
    )
    assert small == [], "too small for a finger"


def test_who_wants_no_motion_gets_none(open_page: OpenPage) -> None:
    moving = "(e) => getComputedStyle(e).transitionDuration"
    still = ready(open_page(reduced_motion="reduce"))
    assert still.locator("#draw-button").evaluate(moving) == "0s"
    assert ready(open_page()).locator("#draw-button").evaluate(moving) != "0s"


def test_a_service_with_keys_asks_for_one_and_the_tab_keeps_it(
    open_page: OpenPage, guarded: tuple[str, str]
) -> None:
    address, key = guarded
    page = open_page(address)
    dialog = page.get_by_role("dialog", name="Key to this service")
    dialog.get_by_label("Key", exact=True).fill("dogbooth_wrong")
    dialog.get_by_role("button", name="Use it").click()
    expect(dialog.get_by_role("alert")).to_have_text("This service asks for a key.")
    dialog.get_by_label("Key", exact=True).fill(key)
    dialog.get_by_role("button", name="Use it").click()
    expect(dialog).to_be_hidden()
    draw(ready(page), "a beagle behind a lock", seed=1)
    expect(page.locator("#prints button img")).to_have_js_property("naturalWidth", 32)
    page.reload()
    kept = page.locator("#album").get_by_role("button", name="Open: a beagle behind a lock, seed 1")
    expect(kept.locator("img")).to_have_js_property("naturalWidth", 32)
    stored = page.evaluate("[JSON.stringify(sessionStorage), JSON.stringify(localStorage)]")
    assert key in stored[0] and key not in stored[1]
    page.get_by_role("button", name="Key", exact=True).click()
    dialog.get_by_role("button", name="Forget it").click()
    expect(dialog.get_by_role("button", name="Use it")).to_be_visible()
    assert key not in page.evaluate("JSON.stringify(sessionStorage)")

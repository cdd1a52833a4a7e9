"""What the browser is sent: the page's own files, and nothing from elsewhere."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.routes.page import FOLDER
from models.schedulers import SCHEDULERS

FILES = sorted(path.name for path in FOLDER.iterdir() if path.is_file())


def test_the_root_is_the_page_and_docs_stay(client: TestClient) -> None:
    page = client.get("/", follow_redirects=False)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "swagger" in client.get("/docs").text


def test_the_page_is_not_part_of_the_api(client: TestClient) -> None:
    assert not [path for path in client.get("/openapi.json").json()["paths"] if "page" in path]


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in FILES)])
def test_every_file_comes_under_a_strict_policy(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/page/../main.py", "/page/%2e%2e/main.py", "/page/none.js"])
def test_no_other_file_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_site(name: str) -> None:
    text = (FOLDER / name).read_text().replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"(?:https?:)?//[\w-]+\.\w[^\s\"']*", text) == []


def test_the_page_offers_every_scheduler() -> None:
    source = (FOLDER / "draw.js").read_text()
    listed = re.search(r"SCHEDULERS = \[(.*?)\]", source, re.DOTALL)
    assert listed is not None
    assert re.findall(r'"(\w+)"', listed[1]) == list(SCHEDULERS)


def words() -> dict[str, dict[str, str]]:
    """The strings of each language by their keys."""
    source = (FOLDER / "words.js").read_text()
    tables = re.findall(r"const (en|es) = \{\n(.*?)\n\};", source, re.DOTALL)
    pair = re.compile(r'^  "?([\w.]+)"?:\s+"((?:[^"\\]|\\.)*)",$', re.MULTILINE)
    return {language: dict(pair.findall(table)) for language, table in tables}


def test_every_string_is_there_in_both_languages() -> None:
    english, spanish = words()["en"], words()["es"]
    assert len(english) > 100 and english.keys() == spanish.keys()
    for key, text in english.items():
        values = set(re.findall(r"\{\w+\}", text))
        assert values == set(re.findall(r"\{\w+\}", spanish[key])), key


def test_every_string_that_the_page_names_has_words() -> None:
    texts = [path.read_text() for path in Path(FOLDER).glob("*.[hj]*")]
    named = {
        key
        for text in texts
        for key in re.findall(r'data-t(?:-\w+)?="([\w.]+)"', text)
        + re.findall(r'\bt\("([\w.]+)"', text)
        + re.findall(r'\bsay\([^,]+(?:\([^)]*\))?, "([\w.]+)"', text)
    }
    assert len(named) > 60
    assert named <= words()["en"].keys()

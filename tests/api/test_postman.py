"""The Postman collection: as the schema says, and run by newman against the live service."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from api.access import NO_KEY
from api.errors import documented, link
from api.main import app
from scripts.postman import COLLECTION, PICTURE, collection_text, example_picture

NEWMAN = "newman@6.2.1"


def run_npx(*words: str, seconds: int) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["npx", "--yes", *words], capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.fixture(scope="module")
def newman() -> str:
    if shutil.which("npx") is None:
        pytest.skip("npx is not installed (apt-get install nodejs npm)")
    asked = run_npx(NEWMAN, "--version", seconds=300)
    if asked.returncode:
        pytest.skip(f"{NEWMAN} cannot be had from npm: {asked.stderr[-300:]}")
    return NEWMAN


def newman_run(newman: str, report: Path, address: str, key: str = NO_KEY) -> dict[str, Any]:
    """Run the collection; give newman's own report."""
    words = ["run", str(COLLECTION), "--env-var", f"base_url={address}"]
    words += ["--env-var", f"key={key}"]
    words += ["--working-dir", str(COLLECTION.parent), "--timeout-request", "60000"]
    words += ["--reporters", "json", "--reporter-json-export", str(report)]
    done = run_npx(newman, *words, seconds=300)
    assert report.exists(), done.stderr
    run: dict[str, Any] = json.loads(report.read_text())["run"]
    return run


def test_the_collection_is_what_the_schema_makes() -> None:
    """Where this fails: `make postman`."""
    assert COLLECTION.read_text() == collection_text(app.openapi())
    assert PICTURE.read_bytes() == example_picture()


def test_the_collection_asks_every_operation() -> None:
    asked = {
        (item["request"]["method"].lower(), len(item["request"]["url"]["path"]))
        for item in json.loads(COLLECTION.read_text())["item"]
    }
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            assert (method, path.count("/")) in asked, path


@pytest.mark.parametrize("asks_for_keys", [False, True])
def test_newman_finds_every_assertion_true(
    newman: str, live: str, guarded: tuple[str, str], tmp_path: Path, asks_for_keys: bool
) -> None:
    address, key = guarded if asks_for_keys else (live, NO_KEY)
    run = newman_run(newman, tmp_path / "report.json", address, key)
    failures = [
        f"{failure['source']['name']}: {failure['error']['message']}" for failure in run["failures"]
    ]
    assert not failures, "\n".join(failures)
    assert run["stats"]["requests"]["total"] == len(json.loads(COLLECTION.read_text())["item"])
    assert run["stats"]["assertions"]["total"] > 2 * run["stats"]["requests"]["total"]
    codes = {execution["response"]["code"] for execution in run["executions"]}
    assert codes >= {200, 202, 204, 400, 422}


def test_newman_finds_what_is_not_as_documented(
    newman: str, tmp_path: Path, scripted_address: str, scripted: Any
) -> None:
    """The assertions can fail: an engine that is closed answers 503."""
    scripted.close()
    run = newman_run(newman, tmp_path / "report.json", scripted_address)
    failed = {failure["source"]["name"] for failure in run["failures"]}
    assert "Make pictures: In Spanish" in failed
    assert "Is the process alive?" not in failed


def test_what_no_link_leads_to_is_asked_for_in_vain() -> None:
    """So that running the collection deletes nothing that it did not make."""
    things = FastAPI(generate_unique_id_function=lambda route: route.name)

    @things.post(
        "/things", status_code=201, responses={201: {"links": link("read_thing", "name", "name")}}
    )
    async def make_thing() -> dict[str, str]:
        """Made."""
        return {"name": "new"}

    @things.get("/things/{name}", responses=documented(404))
    async def read_thing(name: str) -> str:
        """Read."""
        return name

    @things.delete("/things/{name}", responses=documented(404))
    async def delete_thing(name: str) -> None:
        """Gone."""

    made, read, gone = json.loads(collection_text(things.openapi()))["item"]
    assert 'set("read_thing_name", pm.response.json()?.name)' in script_of(made)
    assert read["request"]["url"]["raw"].endswith("/things/{{read_thing_name}}")
    assert script_of(read).startswith('pm.test("200"')
    assert gone["request"]["method"] == "DELETE"
    assert script_of(gone).startswith('pm.test("404"')


def script_of(item: dict[str, Any]) -> str:
    return "\n".join(item["event"][0]["script"]["exec"])

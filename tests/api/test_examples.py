"""The scripts in examples/, each run as a user runs it, against a service on tiny models."""

import json
import os
import subprocess
from pathlib import Path
from shutil import copytree

import pytest
from PIL import Image

from tests.api.conftest import live_service, make_settings
from tests.api.trained import FAST, photo

SCRIPT = Path(__file__).parents[2] / "examples" / "my_dog.sh"


def run(folder: Path, address: str, output: Path) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "DOGBOOTH_URL": address,
        "BASE": "tiny",
        "SETTINGS": json.dumps(FAST),
        "OUTPUT": str(output),
    }
    return subprocess.run(
        ["sh", str(SCRIPT), str(folder), "fido"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "my photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"my; dog, {number}.png").write_bytes(photo(number))
    return folder


def test_my_dog_is_trained_and_drawn_four_times(
    tmp_path: Path, tiny_models: Path, photos: Path
) -> None:
    copytree(tiny_models, tmp_path / "home" / "models")
    with live_service(make_settings(tmp_path / "home")) as address:
        done = run(photos, address, tmp_path / "pictures")
        again = run(photos, address, tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert "3 photos of fido" in done.stdout and "drawing: a photo of fido dog" in done.stdout
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in pictures] == ["1.png", "2.png", "3.png", "4.png"]
    assert {Image.open(path).size for path in pictures} == {(32, 32)}
    assert (again.returncode, again.stdout) == (1, "")
    assert "my_dog.sh: 409: name 'fido': a model is called so already" in again.stderr


def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, photos: Path, live: str) -> None:
    (photos / "notes.txt").write_text("no photo")
    refused = run(photos, live, tmp_path)
    assert refused.returncode == 1
    assert "422: photos: 1 of 4 cannot be used: notes.txt: not a picture" in refused.stderr
    away = run(photos, "http://127.0.0.1:9", tmp_path)
    assert "the service at http://127.0.0.1:9 does not answer" in away.stderr
    missing = run(tmp_path / "nowhere", live, tmp_path)
    assert "no folder" in missing.stderr

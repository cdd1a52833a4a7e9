from pathlib import Path

import pytest
from PIL import Image

from models.__main__ import main
from models.catalog import Catalog


@pytest.fixture(autouse=True)
def home(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))


def test_the_command_shows_the_picture_and_a_map_of_each_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "heat.png"
    assert main(["attention", "a dog, asleep", "--model", "rex", "--output", str(output)]) == 0
    assert Image.open(output).width == 6 + 4 * (32 + 6)
    said = capsys.readouterr().out
    assert all(f"{word} " in said for word in ("a", "dog", "asleep"))


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attention", "a dog", "--model", "tiny", "--scheduler", "magic"]) == 2
    assert "scheduler 'magic': one of ddim" in capsys.readouterr().err

from pathlib import Path

import pytest
from PIL import Image

from models.__main__ import main, taught_prompts
from models.catalog import Catalog


def test_a_sheet_shows_every_breed_of_a_model_and_of_its_base(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    prompts = taught_prompts("rex", catalog)
    assert prompts == ["a photo of a beagle", "a photo of a golden retriever", "a photo of a pug"]
    output = tmp_path / "sheet.png"
    line = ["sheet", "--model", "rex", "--output", str(output), "--seeds", "2", "--columns", "3"]
    assert main(line) == 0
    picture = Image.open(output)
    assert picture.size == (3 * (2 * 36 + 8), 32 + 22 + 4)
    drawn = picture.crop((4, 22, 36, 54)).tobytes()
    assert drawn != picture.crop((40, 22, 72, 54)).tobytes()


def test_an_unknown_model_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    assert main(["sheet", "--model", "nobody"]) == 2
    assert "nobody" in capsys.readouterr().err

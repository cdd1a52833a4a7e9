"""The commands that take models in and give them out, as a person types them."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from models.__main__ import main
from models.catalog import Catalog
from models.formats.hub import prepare_repository
from models.manifest import ADAPTER_FILE


@pytest.fixture
def home(tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with the base `tiny` and its adapter `rex`; nothing ships."""
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    (tmp_path / "nothing").mkdir()
    monkeypatch.setattr("models.__main__.embedded_folder", lambda: tmp_path / "nothing")
    return tmp_path


def test_a_model_goes_out_and_comes_in_again(
    home: Path, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / "rex.safetensors"
    assert main(["export", "rex", "--format", "kohya", "--output", str(path)]) == 0
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["ss_sd_model_name"] == "tiny"
    said = ["import", str(path), "--name", "max", "--description", "Max.", "--tag", "dog"]
    assert main(said) == 0
    assert "adapter max on tiny: " in capsys.readouterr().out
    manifest = catalog.get("max").manifest
    assert (manifest.description, manifest.tags, manifest.breeds) == ("Max.", ["dog"], ["pug"])


def test_a_checkpoint_becomes_a_lora(
    home: Path, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "rex", "--format", "diffusers", "--output", str(home / "out")]) == 0
    assert main(["import", str(home / "out"), "--name", "full", "--base", "tiny"]) == 0
    assert main(["extract-lora", "full", "--name", "slim", "--rank", "2"]) == 0
    assert "of rank 2 to 2, 100.00% of their change; 0.00% of all" in capsys.readouterr().out
    assert catalog.get("slim").manifest.base == "tiny"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "/nowhere/x", "--name", "max"], "x: neither a file nor a folder"),
        (["import", __file__, "--name", "max"], "test_commands.py: is no whole safetensors file"),
        (["import", __file__, "--name", "rex"], "a model is called 'rex' already"),
        (["export", "max", "--format", "lora", "--output", "x"], "no model is called 'max'"),
        (["export", "rex", "--format", "lora"], "export needs --output, --push-to-hub, or both"),
        (["extract-lora", "rex", "--name", "slim"], "rex: is an adapter already"),
        (["sheet", "--seeds", "0"], "--seeds 0 and --columns 2 must be at least 1"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    home: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said
    assert said.count("\n") == 1


def test_a_repository_holds_the_weights_and_a_card(home: Path, catalog: Catalog) -> None:
    """What --push-to-hub uploads; the upload itself needs the Hub and is not tested."""
    prepare_repository("rex", "lora", home / "lora", catalog)
    assert {path.name for path in (home / "lora").iterdir()} == {ADAPTER_FILE, "README.md"}
    prepare_repository("tiny", "diffusers", home / "whole", catalog)
    assert json.loads((home / "whole" / "model_index.json").read_bytes())
    card = (home / "lora" / "README.md").read_text()
    assert card.startswith('---\npipeline_tag: "text-to-image"\n')
    assert "Base: `tiny`." in card
    prepare_repository("rex", "kohya", home / "kohya", catalog)
    assert (home / "kohya" / "rex.safetensors").is_file()

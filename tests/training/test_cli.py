import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import copy

import pytest

from models.catalog import Catalog
from training.__main__ import main, parser


def test_one_command_trains_on_photos_and_publishes(
    photos: Path, catalog: Catalog, tmp_path: Path
) -> None:
    """The real process, as a user starts it; `catalog` lives in the home folder's models/."""
    (tmp_path / "run.toml").write_text('base = "tiny"\nrank = 2\nsteps = 50\nresolution = 32\n')
    command = [sys.executable, "-m", "training", "dreambooth", "--config", "run.toml"]
    command += ["--photos", str(photos), "--name", "fido", "--steps", "2", "--class-images", "2"]
    environment = os.environ | {"DOGBOOTH_HOME": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "published fido" in done.stdout
    manifest = catalog.get("fido").manifest
    assert manifest.instance_prompts == ["a photo of fido dog"]
    assert manifest.training["config"]["steps"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "rex"], "dataset: needed"),
        (["--dataset", "x"], "name: needed"),
        (["--photos", "nowhere", "--name", "rex"], "'nowhere' is no folder"),
        (["--config", "none.toml"], "'none.toml': no such file"),
        (["--dataset", "x", "--name", "rex", "--rank", "0"], "rank: 0 is below 1"),
    ],
)
def test_a_bad_command_ends_with_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    assert main(["dreambooth", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def _fill(folder: Path, photos: Path, kind: str) -> None:
    folder.mkdir()
    if kind == "one photo":
        copy(photos / "0.png", folder)
    if kind == "no pictures":
        (folder / "a.jpg").write_text("no picture")
        (folder / "b.png").write_bytes((photos / "0.png").read_bytes()[:200])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("none", "no photo left to prepare (none found)"),
        ("one photo", "1 photo of 'fido'; it takes 2 or more, best 4 to 6"),
        ("no pictures", "(1 not a picture, 1 truncated or damaged picture)"),
    ],
)
def test_photos_that_are_none_are_one_line(
    kind: str,
    message: str,
    photos: Path,
    catalog: Catalog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    _fill(tmp_path / "mine", photos, kind)
    line = ["dreambooth", "--name", "fido", "--photos", str(tmp_path / "mine"), "--base", "tiny"]
    assert main(line) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "models" / "fido").exists()


def test_a_folder_of_folders_teaches_several_animals_each_by_its_own_prompt(
    photos: Path, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    for name, numbers in (("rex", (0, 1)), ("luna", (2, 3))):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in numbers:
            copy(photos / f"{number}.png", tmp_path / "pets" / name)
    line = ["dreambooth", "--photos", str(tmp_path / "pets"), "--name", "pets", "--base", "tiny"]
    line += [
        "--steps",
        "2",
        "--warmup",
        "0",
        "--sample-images",
        "1",
        "--class-images",
        "1",
        "--resolution",
        "32",
    ]
    assert main(line) == 0
    prompts = catalog.get("pets").manifest.instance_prompts
    assert prompts == ["a photo of luna dog", "a photo of rex dog"]


def test_an_unknown_schedule_is_one_line_that_names_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["dreambooth", "--name", "rex", "--dataset", "x", "--schedule", "square"])
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "--schedule" in line and "'square'" in line and "one_cycle" in line


def test_every_setting_is_an_option() -> None:
    line = ["dreambooth", "--class-prompts", "a", "--class-prompts", "b"]
    line += ["--no-train-text-encoder", "--learning-rate", "1e-5", "--method", "full"]
    options = parser().parse_args(line)
    assert options.class_prompts == ["a", "b"]
    assert options.train_text_encoder is False
    assert options.learning_rate == 1e-5
    with pytest.raises(SystemExit):
        parser().parse_args(["dreambooth", "--method", "magic"])


def test_the_report_of_a_bad_command_ends_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    report = tmp_path / "report.jsonl"
    for extra, code in (
        (["--dataset", "x", "--rank", "0"], "invalid_setting"),
        (["--photos", "nowhere"], "invalid_data"),
        (["--dataset", str(tmp_path), "--base", "nobody"], "invalid_setting"),
    ):
        report.unlink(missing_ok=True)
        assert main(["dreambooth", "--name", "fido", "--report", str(report), *extra]) == 2
        first, last = (json.loads(line) for line in report.read_text().splitlines())
        assert first == {"event": "preparing"}
        assert (last["event"], last["code"]) == ("failed", code)


def test_a_base_that_is_not_there_is_one_line(
    rex: Path,
    catalog: Catalog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    line = ["dreambooth", "--name", "fido", "--dataset", str(rex), "--base", "nobody"]
    assert main(line) == 2
    assert "error: no model is called 'nobody'" in capsys.readouterr().err.splitlines()[-1]

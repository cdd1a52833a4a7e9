import json
import os
import subprocess
import sys
from pathlib import Path

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

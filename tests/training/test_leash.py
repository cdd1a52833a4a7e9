"""A run on a leash begins and ends with the program that holds it."""

import json
import os
import subprocess
import sys
from pathlib import Path


def start(tmp_path: Path, *options: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "training", "dreambooth", "--leashed", *options]
    command += ["--report", str(tmp_path / "report.jsonl")]
    environment = os.environ | {"DOGBOOTH_HOME": str(tmp_path)}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE)


def test_without_a_word_nothing_is_done(tmp_path: Path) -> None:
    """Its service was killed before it had noted the process down."""
    run = start(tmp_path, "--name", "rex")
    _, error = run.communicate(timeout=120)
    assert run.returncode == 0, error
    assert list(tmp_path.iterdir()) == []


def test_at_a_word_it_begins(tmp_path: Path) -> None:
    run = start(tmp_path)
    assert run.stdin is not None
    run.stdin.write(b"\n")
    run.stdin.flush()
    assert run.wait(120) == 2
    told = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert [line["event"] for line in told] == ["preparing", "failed"]


def test_a_run_whose_service_is_gone_saves_and_leaves(
    tmp_path: Path, tiny_models: Path, rex: Path
) -> None:
    (tmp_path / "models").symlink_to(tiny_models)
    options = {"name": "fido", "dataset": str(rex), "base": "tiny", "rank": "2", "steps": "100000"}
    options |= {"batch-size": "1", "class-images": "1", "sample-images": "0", "resolution": "32"}
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    run = start(tmp_path, *words, "--folder", str(tmp_path / "run"), "--early-stop", "0")
    assert run.stdin is not None and run.stderr is not None
    run.stdin.write(b"\n")
    run.stdin.flush()
    report = tmp_path / "report.jsonl"
    while not (report.exists() and '"event": "step"' in report.read_text()):
        assert run.poll() is None, run.stderr.read()
    run.stdin.close()
    run.stderr.read()
    assert run.wait(60) == 143
    last = json.loads(report.read_text().splitlines()[-1])
    assert last["event"] == "stopped"
    assert (tmp_path / "run" / "checkpoints" / f"step-{last['step']:06d}").is_dir()

"""A run that is killed, told to stop or out of disk goes on as if nothing had been."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.catalog import Catalog
from models.manifest import ADAPTER_FILE
from training.__main__ import main

STEPS = 40
SETTINGS = f"""
base = "tiny"
rank = 2
steps = {STEPS}
batch_size = 2
gradient_accumulation = 2
class_images = 2
resolution = 32
learning_rate = 1e-2
ema_decay = 0.9
caption_dropout = 0.2
train_text_encoder = true
validate_every = 5
sample_every = 0
sample_images = 0
checkpoint_every = 3
mixed_precision = "no"
"""


def home_at(folder: Path, tiny_models: Path) -> Path:
    copytree(tiny_models, folder / "models")
    (folder / "run.toml").write_text(SETTINGS)
    return folder


def start(home: Path, dataset: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "training", "dreambooth", "--config", str(home / "run.toml")]
    command += ["--dataset", str(dataset), "--name", "fido", "--report", str(home / "report.jsonl")]
    environment = os.environ | {"DOGBOOTH_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *options],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def events(home: Path) -> list[dict[str, Any]]:
    path = home / "report.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def wait_for_checkpoint(home: Path, process: "subprocess.Popen[str]", step: int) -> None:
    folder = home / "training" / "runs" / "fido" / "checkpoints"
    while process.poll() is None:
        if any(path.name >= f"step-{step:06d}" for path in folder.glob("step-*")):
            return
        time.sleep(0.005)
    pytest.fail(f"it ended before step {step}: {process.communicate()[1][-2000:]}")


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, tiny_models: Path, rex: Path
) -> dict[str, torch.Tensor]:
    """The weights of a run that nothing stopped."""
    home = home_at(tmp_path_factory.mktemp("whole"), tiny_models)
    process = start(home, rex)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    kinds = [event["event"] for event in events(home)]
    assert kinds[0] == "preparing" and kinds[-1] == "succeeded"
    assert {"step", "validation", "evaluating"} <= set(kinds)
    last = [event for event in events(home) if event["event"] == "step"][-1]
    assert last["step"] == last["steps"] == STEPS and last["memory_bytes"] > 1e7
    return load_file(home / "models" / "fido" / ADAPTER_FILE)


def test_a_run_stopped_three_times_ends_with_the_very_weights_of_one_that_was_not(
    tmp_path: Path, tiny_models: Path, rex: Path, uninterrupted: dict[str, torch.Tensor]
) -> None:
    """SIGTERM and Ctrl-C save and leave; SIGKILL at a random step leaves the last checkpoint."""
    home = home_at(tmp_path, tiny_models)
    checkpoints = home / "training" / "runs" / "fido" / "checkpoints"
    seed = random.randrange(10**6)
    steps = sorted(random.Random(seed).sample(range(4, STEPS - 14), 3))
    saved = 0
    for sent, step in zip((signal.SIGTERM, signal.SIGINT, signal.SIGKILL), steps, strict=True):
        process = start(home, rex)
        wait_for_checkpoint(home, process, max(step, saved + 3))
        process.send_signal(sent)
        _, error = process.communicate(timeout=60)
        assert f"going on from step {saved}" in error or saved == 0, (seed, error)
        assert not (home / "models" / "fido").exists()
        if sent != signal.SIGKILL:
            assert process.returncode == 128 + sent, (seed, error)
            assert "; the same command goes on from there" in error.splitlines()[-1]
            assert events(home)[-1]["event"] == "stopped"
        saved = int(max(path.name for path in checkpoints.glob("step-*")).removeprefix("step-"))
        if sent != signal.SIGKILL:
            assert events(home)[-1]["step"] == saved
            assert (checkpoints / f"step-{saved:06d}" / ADAPTER_FILE).exists()
        assert len(list(checkpoints.glob("step-*"))) <= 3
    last = start(home, rex)
    _, error = last.communicate(timeout=300)
    assert last.returncode == 0, error
    assert f"going on from step {saved}" in error
    published = load_file(home / "models" / "fido" / ADAPTER_FILE)
    assert published.keys() == uninterrupted.keys()
    assert all(torch.equal(published[name], uninterrupted[name]) for name in published), seed
    assert not any(checkpoints.iterdir())


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    tmp_path: Path,
    tiny_models: Path,
    rex: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The second checkpoint meets a full disk, as fsync reports it; then other settings come."""
    home = home_at(tmp_path, tiny_models)
    plain, folder = os.fsync, home / "training" / "runs" / "fido" / "checkpoints"

    def fsync(descriptor: int) -> None:
        if list(folder.glob("step-*")):
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(descriptor)

    monkeypatch.setenv("DOGBOOTH_HOME", str(home))
    monkeypatch.setattr(os, "fsync", fsync)
    line = ["dreambooth", "--config", str(home / "run.toml"), "--dataset", str(rex)]
    line += ["--name", "fido", "--report", str(home / "report.jsonl")]
    assert main(line) == 2
    assert "error: the disk is full" in capsys.readouterr().err.splitlines()[-1]
    assert events(home)[-1]["code"] == "disk_full"
    assert [path.name for path in folder.iterdir()] == ["step-000003"]
    assert not list((home / "models").glob("*fido*"))

    monkeypatch.setattr(os, "fsync", plain)
    assert main([*line, "--steps", "4"]) == 0
    assert "starting anew" in capsys.readouterr().err
    assert Catalog([home / "models"]).get("fido").manifest.training["steps"] == 4

"""Two processes on one CPU, as `accelerate launch` starts one for each GPU."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree

import psutil
import pytest
import torch
from safetensors.torch import load_file

from models.catalog import Catalog
from models.manifest import ADAPTER_FILE
from training.__main__ import main

SETTINGS = """
base = "tiny"
name = "fido"
rank = 2
steps = 6
class_images = 2
resolution = 32
learning_rate = 1e-2
warmup = 2
ema_decay = 0.5
validate_every = 2
sample_every = 3
sample_images = 1
checkpoint_every = 2
early_stop = 0.0
mixed_precision = "no"
device = "cpu"
"""


def home_at(folder: Path, tiny_models: Path) -> Path:
    copytree(tiny_models, folder / "models")
    (folder / "run.toml").write_text(SETTINGS)
    return folder


def launch(home: Path, photos: Path, *options: str) -> "subprocess.Popen[str]":
    """Two processes of the command in `home`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "training", "dreambooth", "--config", str(home / "run.toml")]
    command += ["--photos", str(photos), "--report", str(home / "report.jsonl"), *options]
    return subprocess.Popen(
        command,
        env=os.environ | {"DOGBOOTH_HOME": str(home), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_train_what_one_does_with_the_doubled_batch(
    tmp_path: Path, tiny_models: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against two traps: `accelerate` steps its schedule once for each process, and each
    process would draw photos of its own."""
    home = home_at(tmp_path / "both", tiny_models)
    process = launch(home, photos, "--batch-size", "2")
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    assert said.count("published fido") == 1
    assert errors.count("parameters on cpu") == 1

    monkeypatch.setenv("DOGBOOTH_HOME", str(home_at(tmp_path / "alone", tiny_models)))
    line = ["dreambooth", "--config", str(tmp_path / "alone" / "run.toml")]
    assert main([*line, "--photos", str(photos), "--batch-size", "4"]) == 0

    alone, both = (Catalog([tmp_path / n / "models"]).get("fido") for n in ("alone", "both"))
    losses = [entry.manifest.training["validation_losses"] for entry in (alone, both)]
    assert losses[0] == pytest.approx(losses[1], abs=2e-4)
    one, other = (load_file(entry.folder / ADAPTER_FILE) for entry in (alone, both))
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=2e-3, rtol=2e-2)


def test_a_signal_to_one_process_stops_both_at_the_same_step(
    tmp_path: Path, tiny_models: Path, photos: Path
) -> None:
    """Guards against a process that waits for ever for the gradients of one that has left."""
    home = home_at(tmp_path, tiny_models)
    process = launch(home, photos, "--steps", "5000", "--sample-images", "0")
    folder = home / "training" / "runs" / "fido" / "checkpoints"
    while not list(folder.glob("step-*")):
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.05)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.environ().get("RANK") == "1"
    ]
    workers[-1].send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    last = json.loads((home / "report.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "stopped", errors[-3000:]
    assert (folder / f"step-{last['step']:06d}" / ADAPTER_FILE).exists()
    assert not (home / "models" / "fido").exists()

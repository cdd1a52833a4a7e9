"""`--dry-run`: what a run would take, told before it starts."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.catalog import Catalog
from training.__main__ import main
from training.dreambooth_config import DreamBoothConfig
from training.estimate import PeakBytes, estimate, step_peak
from training.preparation import prepare


@pytest.fixture
def lora_run(rex: Path) -> DreamBoothConfig:
    return DreamBoothConfig(
        name="fido",
        dataset=rex,
        base="tiny",
        rank=2,
        steps=10,
        batch_size=4,
        class_images=4,
        mixed_precision="no",
        validate_every=0,
        sample_images=0,
        device="cpu",
    )


@pytest.mark.parametrize("checkpointing", [False, True])
def test_fake_tensors_take_as_many_bytes_as_real_ones(
    lora_run: DreamBoothConfig, catalog: Catalog, tmp_path: Path, checkpointing: bool
) -> None:
    config = replace(lora_run, method="full", gradient_checkpointing=checkpointing)
    run = prepare(config, catalog, tmp_path)
    batch = run.gathered.draws(run.generator)
    weights = [p.clone() for p in run.weights.parameters]
    expected = step_peak(run.step, batch, 4)
    assert all(p.grad is None for p in run.weights.parameters)
    assert all(map(torch.equal, weights, run.weights.parameters))
    with PeakBytes() as real:
        run.step.gradients(batch, 4)
    assert expected == pytest.approx(real.peak, rel=0.05)
    assert step_peak(run.step, batch, 1) < 0.95 * expected


def test_a_dry_run_says_what_a_run_would_take_and_publishes_nothing(
    lora_run: DreamBoothConfig, catalog: Catalog
) -> None:
    said = estimate(lora_run, catalog)
    trained, everything = map(int, re.findall(r"\d+", said.splitlines()[0].replace(",", "")))
    assert 0 < trained < everything
    for part in ("weights", "gradients", "optimizer", "activations"):
        assert re.search(rf"^{part} +\d+\.\d\d GiB$", said, re.M)
    assert re.search(r"^sum +\d+\.\d\d GiB: fits cpu", said, re.M)
    assert re.search(r"^time +[\d.e-]+ s a step, \d+:\d\d:\d\d for 10 steps$", said, re.M)
    assert "fido" not in [entry.manifest.name for entry in catalog.entries()]


def test_a_run_that_does_not_fit_is_told_what_to_lower(
    lora_run: DreamBoothConfig, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.estimate.memory_there", lambda device: 1000)
    said = estimate(lora_run, catalog)
    assert "does not fit" in said and "smaller: gradient_checkpointing" in said
    assert "s a step" not in said


def test_the_option_estimates_and_trains_nothing(
    catalog: Catalog,
    rex: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    line = ["dreambooth", "--dataset", str(rex), "--name", "fido", "--base", "tiny", "--rank", "2"]
    assert main([*line, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("parameters trained")
    assert not (tmp_path / "training").exists()

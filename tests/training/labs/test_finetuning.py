"""The lab of fine-tuning, on drawn cats and the tiny base."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch

from models.catalog import Catalog
from models.pipeline import load_pipeline
from tests.tiny import publish_base
from training.labs import finetuning
from training.labs.accumulation import compare_parts
from training.labs.finetuning import BASE, FinetuningConfig, run, variants
from training.labs.runs import run_lab


@pytest.fixture
def config(cats: Path) -> FinetuningConfig:
    return FinetuningConfig(
        dataset=cats,
        base="tiny",
        steps=2,
        batch_size=4,
        ranks=(1, 2),
        seeds=2,
        runs=("from scratch", "cross attention only", "LoRA, rank 2, one_cycle"),
    )


@pytest.fixture
def home(tmp_path: Path, tiny_models: Path) -> Path:
    """The folder of all labs; the catalog's models stand beside it."""
    copytree(tiny_models, tmp_path / "models")
    return tmp_path / "labs"


def test_runs_on_one_budget_stand_in_one_table(
    config: FinetuningConfig,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = run(config, home)
    record = json.loads((folder / "finetuning.json").read_text())
    rows: dict[str, Any] = record["runs"]
    assert list(rows) == [BASE, *config.runs]
    assert rows[BASE]["drift"] == pytest.approx(0, abs=1e-6)
    scratch, part, lora = (rows[name] for name in config.runs)
    assert scratch["parameters"] > max(part["parameters"], lora["parameters"])
    assert all(row["seconds"] > 0 and row["memory_bytes"] > 0 for row in (scratch, part, lora))
    assert [step for step, _ in scratch["losses"]] == [0, 1, 2]
    assert scratch["losses"][0] != part["losses"][0]
    assert part["losses"][0] == pytest.approx(lora["losses"][0], rel=1e-3)  # both begin as the base
    table = (folder / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert all(f"| {name} |" in table for name in rows)
    assert {"curves.png", "pictures.png"} <= {path.name for path in folder.iterdir()}

    def refuse(*_: object) -> None:
        raise AssertionError("it was trained already")

    monkeypatch.setattr(finetuning, "dreambooth", refuse)
    again = finetuning.train(variants(config)["from scratch"], Catalog([folder / "models"]), folder)
    assert again["seconds"] == scratch["seconds"]


def test_all_rows_differ_in_what_they_are_about_only(config: FinetuningConfig) -> None:
    made = variants(replace(config, runs=()))
    assert len({own.name for own in made.values()}) == len(made) == 12
    assert {own.rows for own in made.values()} == {4}
    assert {own.steps for own in made.values()} == {2}
    assert {own.split for own in made.values()} == {"train"}
    assert {own.schedule for own in made.values()} == set(config.schedules)
    assert [own.rank for name, own in made.items() if name.startswith("LoRA, rank 1")] == [1]


def test_from_scratch_the_unet_is_random_and_the_rest_is_the_base_s(
    config: FinetuningConfig, home: Path
) -> None:
    catalog = Catalog([home / "models", home.parent / "models"])
    finetuning.publish_untrained(config, catalog)
    models = [
        load_pipeline(name, catalog, torch.device("cpu"), torch.float32)
        for name in ("tiny", finetuning.UNTRAINED)
    ]
    for part, same in (("vae", True), ("text_encoder", True), ("unet", False)):
        one, other = (
            torch.cat([p.flatten() for p in getattr(model, part).parameters()]) for model in models
        )
        assert torch.allclose(one, other, atol=1e-3) is same, part
    assert catalog.get(finetuning.UNTRAINED).manifest.breeds == []


def test_parts_of_a_batch_have_the_gradient_of_the_whole_and_need_less_memory(
    config: FinetuningConfig, home: Path
) -> None:
    catalog = Catalog([home.parent / "models"])
    whole = variants(replace(config, runs=(), batch_size=8))["full"]
    rows = compare_parts(whole, catalog, home)
    exact = [row for row in rows if row["precision"] == "fp32"]
    assert [(row["rows_at_once"], row["parts"]) for row in exact] == [
        (8, 1),
        (4, 2),
        (2, 4),
        (1, 8),
    ]
    assert all(row["apart"] < 1e-5 for row in exact)
    assert all(row["apart"] < 0.05 for row in rows)
    assert [row["loss"] for row in exact] == pytest.approx([exact[0]["loss"]] * 4, rel=1e-5)
    memory = [row["memory_bytes"] for row in exact]
    assert memory == sorted(memory, reverse=True) and memory[-1] < memory[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "nowhere"], "'nowhere' holds no prepared dataset"),
        (["--dataset", "CATS", "--breeds", "Persian"], "has no Persian"),
        (
            ["--dataset", "CATS", "--base", "large"],
            "its pictures have 36 px, the model draws 64 px",
        ),
        (["--dataset", "UNLISTED"], "its test list has 0 photos of these, 7 are needed"),
        (
            ["--dataset", "CATS", "--schedules", "square"],
            "schedule: 'square' is not one of constant",
        ),
        (["--dataset", "CATS", "--runs", "half"], "runs: half is none of: from scratch; full;"),
        (["--dataset", "CATS", "--batch-size", "6"], "batch_size: 6 is no multiple of 4"),
        (["--dataset", "CATS", "--steps", "0"], "steps: 0 is below 1"),
        (["--dataset", "CATS", "--base", "nobody"], "no model is called 'nobody'"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str],
    message: str,
    home: Path,
    cats: Path,
    two_breeds: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DOGBOOTH_HOME", str(home.parent))
    publish_base(Catalog([home.parent / "models"]), "large", resolution=64)
    places = {"CATS": str(cats), "UNLISTED": str(two_breeds)}
    line = [places.get(word, word) for word in arguments]
    if "--base" not in line:
        line += ["--base", "tiny"]
    assert run_lab(FinetuningConfig, run, "training.labs.finetuning", None, line) == 2
    [error] = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ") and message in error
    assert not home.exists()

"""The commands of the labs, on drawn dogs, with networks that train in a moment."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.training.conftest import draw_dog
from training.checkpoints import save_state
from training.config import ConfigError
from training.errors import Stopped
from training.labs import ddpm, gan, scores
from training.labs.material import read_material
from training.labs.runs import History, lerp_average, load_samples, run_lab, save_film, smooth

GAN = gan.GANConfig(
    resolution=16, steps=4, batch_size=2, features="none", z_dim=8, sample_every=2, samples=8
)
DDPM = ddpm.DDPMConfig(
    resolution=16,
    channels=32,
    layers=1,
    steps=4,
    batch_size=2,
    timesteps=20,
    sampling_steps=4,
    sample_every=2,
    samples=8,
)
LABS = [(gan, GAN, "generator"), (ddpm, DDPM, "network")]


@pytest.mark.parametrize(("lab", "config", "network"), LABS, ids=["gan", "ddpm"])
def test_a_run_leaves_network_film_curves_and_samples(
    lab: Any, config: Any, network: str, two_breeds: Path, tmp_path: Path
) -> None:
    folder = lab.run(replace(config, dataset=two_breeds), tmp_path)
    files = {path.name for path in folder.iterdir()}
    assert {f"{network}.safetensors", "film.webp", "curves.png", "samples.safetensors"} <= files
    assert [path.name for path in sorted((folder / "frames").iterdir())] == [
        "000002.png",
        "000004.png",
    ]
    pictures, record = load_samples(folder)
    assert pictures.shape == (8, 3, 16, 16)
    assert record["breeds"] == ["beagle", "pug"]
    assert record["seconds"] > 0


@pytest.mark.parametrize(("lab", "config", "network"), LABS, ids=["gan", "ddpm"])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    lab: Any,
    config: Any,
    network: str,
    two_breeds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = replace(config, dataset=two_breeds)
    whole = lab.run(config, tmp_path / "whole")

    def save_and_signal(path: Path, state: Any) -> None:
        save_state(path, state)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("training.checkpoints.save_state", save_and_signal)
        with pytest.raises(Stopped, match="step 2"):
            lab.run(config, tmp_path / "parted")
    parted = lab.run(config, tmp_path / "parted")
    name = f"{network}.safetensors"
    assert (parted / name).read_bytes() == (whole / name).read_bytes()
    assert torch.equal(load_samples(parted)[0], load_samples(whole)[0])
    assert [row["step"] for row in load_samples(parted)[1]["curves"]] == [1, 2, 3, 4]


def test_a_run_of_other_settings_starts_anew(two_breeds: Path, tmp_path: Path) -> None:
    config = replace(DDPM, dataset=two_breeds)
    ddpm.run(config, tmp_path)
    folder = ddpm.run(replace(config, target="epsilon", steps=2), tmp_path)
    assert [row["step"] for row in load_samples(folder)[1]["curves"]] == [1, 2]


def test_runs_and_a_catalog_model_stand_in_one_table(
    tmp_path: Path, tiny_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dogs, home = tmp_path / "beagle", tmp_path / "labs"
    dogs.mkdir()
    for number in range(42):  # every sixth is held out: seven
        draw_dog(number).save(dogs / f"{number:02}.png")
    (tmp_path / "models").symlink_to(tiny_models)
    gan.run(replace(GAN, dataset=dogs), home)
    ddpm.run(replace(DDPM, dataset=dogs), home)
    folder = scores.run(scores.ScoresConfig(dataset=dogs, models=("tiny",), seeds=8), home)
    printed = capsys.readouterr().out
    assert (folder / "scores.md").read_text() in printed
    for name in ("gan", "ddpm", "tiny", "training photos"):
        assert f"| {name} |" in printed


def test_scores_need_enough_held_out_photos(two_breeds: Path, tmp_path: Path) -> None:
    gan.run(replace(GAN, dataset=two_breeds), tmp_path)
    with pytest.raises(ConfigError, match="holds out 2 photos, 7 are needed"):
        scores.run(scores.ScoresConfig(dataset=two_breeds, runs=("gan",), models=()), tmp_path)


def refused(lab: Any, kind: type, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr that a command ends with."""
    assert run_lab(kind, lab.run, lab.__name__, None, arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("lab", "kind"), [(gan, gan.GANConfig), (ddpm, ddpm.DDPMConfig)], ids=["gan", "ddpm"]
)
def test_bad_input_is_one_clear_line(
    lab: Any,
    kind: type,
    two_breeds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path / "home"))
    empty, small = tmp_path / "empty", tmp_path / "small"
    empty.mkdir()
    small.mkdir()
    Image.new("RGB", (12, 12)).save(small / "dot.png")
    (small / "notes.txt").write_text("no picture")

    def line(*arguments: str) -> str:
        return refused(lab, kind, list(arguments), capsys)

    assert "is no folder" in line("--dataset", str(tmp_path / "absent"))
    assert "no photos in" in line("--dataset", str(empty))
    assert "all 1 photos are smaller than 16 px" in line(
        "--dataset", str(small), "--resolution", "16"
    )
    assert "128 px is more than the photos' 72 px" in line(
        "--dataset", str(two_breeds), "--resolution", "128"
    )
    assert "unknown breed 'pugg'; nearest: pug" in line(
        "--dataset", str(two_breeds), "--breeds", "pugg"
    )
    assert "the dataset has no boxer" in line("--dataset", str(two_breeds), "--breeds", "boxer")
    assert "which names no breeds" in line("--dataset", str(small), "--breeds", "pug")


def test_an_unknown_schedule_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(ddpm, ddpm.DDPMConfig, ["--schedule", "square"], capsys)
    assert line == "error: schedule: 'square' is none of cosine, linear"


def test_scores_of_a_run_that_is_not_there_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    assert "runs: 'gan' is no finished run" in refused(scores, scores.ScoresConfig, [], capsys)


def test_any_folder_of_photos_is_cut_square_and_parted(tmp_path: Path) -> None:
    for number in range(12):
        Image.effect_noise((60, 40 + number), 60).save(tmp_path / f"{number:02}.png")
    material = read_material(tmp_path, [], 32)
    assert material.pictures.shape == (10, 3, 36, 36)
    assert material.held_out.shape == (2, 3, 32, 32)
    assert material.draw(5, torch.Generator().manual_seed(0)).shape == (5, 3, 32, 32)


def test_too_few_photos_are_refused(photos: Path) -> None:
    with pytest.raises(ConfigError, match="has 4 photos, 8 are needed"):
        read_material(photos, [], 32)


def test_the_average_forgets_its_first_steps_and_copies_statistics() -> None:
    average, module = torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1)
    torch.nn.init.constant_(average.weight, 0.0)
    module.running_mean = torch.ones(1)
    lerp_average(average, module, decay=0.9, step=0)
    assert average.weight.item() == pytest.approx(0.9)  # d = 1 / 10
    assert torch.equal(average.running_mean, torch.ones(1))
    lerp_average(average, module, decay=0.0, step=10_000)
    assert average.weight.item() == 1


def test_a_smoothed_constant_is_itself_and_curves_skip_steps_without_a_value() -> None:
    assert smooth([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    history = History()
    history.rows = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "held_out": 5.0}]
    assert history.curve("held_out") == ([2], [5.0])


def test_a_film_may_be_a_gif(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    save_film(frames, tmp_path / "film.gif")
    assert Image.open(tmp_path / "film.gif").n_frames == 3


def test_kinds_of_a_prepared_dataset_are_chosen_by_name_and_tell_their_class(cats: Path) -> None:
    """All eight of a kind: half are on the test list, which is held out."""
    material = read_material(cats, ["siamés"], 32)
    assert (material.names, material.shown and material.shown.word) == (["Siamese"], "cat")
    assert len(material.pictures) == len(material.held_out) == 4
    with pytest.raises(ConfigError, match="the dataset has no Persian"):
        read_material(cats, ["Persian"], 32)

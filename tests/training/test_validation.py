import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data.prepare import prepare_photos
from data.selection import Settings
from tests.tiny import tiny_tokenizer
from training.config import ConfigError
from training.report import Report
from training.subjects import read_subjects, say_what_was_dropped, warn_of_split_names
from training.validation import Score, dvar, validation_batch


def test_dvar_falls_when_the_loss_settles() -> None:
    """Voronov et al.: rolling variance over global variance."""
    falling = [1 / (1 + step) for step in range(40)]
    assert dvar(falling[:19]) == 1.0
    assert dvar(falling) < 0.01
    waves = [float(step % 2) for step in range(40)]
    assert dvar(waves) == pytest.approx(1.0, abs=0.1)
    assert dvar([0.5] * 40) == 0.0


def test_the_validation_batch_never_changes() -> None:
    latents = torch.randn(5, 4, 4, 4)
    one, other = (validation_batch(latents, [0, 1, 2, 3, 4], 1000) for _ in range(2))
    assert torch.equal(one.noise, other.noise)
    assert one.timesteps.tolist() == other.timesteps.tolist()
    assert one.timesteps.tolist() == sorted(set(one.timesteps.tolist()))
    assert one.texts.tolist()[:6] == [0, 1, 2, 3, 4, 0]


def test_drift_and_copies_take_from_the_score() -> None:
    good = Score(subject_similarity=0.7, class_drift=0.0, copying=0.0)
    assert good.total == pytest.approx(0.7)
    assert replace(good, class_drift=0.2).total < good.total
    assert replace(good, copying=0.5).total < good.total


def test_six_photos_of_a_subject_keep_one_for_validation(two_breeds: Path, rex: Path) -> None:
    subjects = read_subjects(two_breeds)
    held = subjects.held_out()
    assert [int(held[subjects.subject_rows == i].sum()) for i in (0, 1)] == [1, 1]
    assert not read_subjects(rex).held_out().any()


def test_one_photo_is_too_few(photos: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "0.png").write_bytes((photos / "0.png").read_bytes())
    settings = Settings(crops=("whole", "portrait"), resolution=36, min_side=8)
    prepare_photos(alone, tmp_path / "out", "rex", "dog", settings)
    with pytest.raises(ConfigError, match="dataset: 1 photo of 'rex'; it takes 2 or more"):
        read_subjects(tmp_path / "out")


def test_photos_that_were_dropped_and_long_names_are_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes((photos / f"{number}.png").read_bytes())
    (folder / "broken.jpg").write_bytes(b"no photo")
    settings = Settings(crops=("whole",), resolution=36, min_side=8, dedup_distance=None)
    prepare_photos(folder, tmp_path / "out", "xzqvw", "dog", settings)
    say_what_was_dropped(tmp_path / "out")
    warn_of_split_names(read_subjects(tmp_path / "out"), tiny_tokenizer())
    said = capsys.readouterr().err
    assert "photos that cannot be used: 1 not a picture" in said
    assert "warning: name: the tokenizer splits 'xzqvw' into 5 pieces" in said


def test_a_report_holds_about_one_step_a_second_and_the_last(tmp_path: Path) -> None:
    now = [0.0]
    report = Report(tmp_path / "report.jsonl", clock=lambda: now[0])
    for step in range(1, 31):
        now[0] += 0.1
        report.step(step, 30, loss=1 / step, seconds_left=3 - now[0], memory=5)
    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] in ([1, 11, 21, 30], [1, 12, 22, 30], [1, 11, 22, 30])
    assert set(lines[0]) == {"event", "step", "steps", "loss", "seconds_left", "memory_bytes"}

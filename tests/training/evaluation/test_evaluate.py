"""The whole command on tiny models: what it writes, and what it refuses."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from PIL import Image

from models.catalog import Catalog
from models.manifest import MANIFEST_FILE
from tests.tiny import publish_adapter, publish_base
from training.__main__ import main
from training.evaluation.copies import find_copies
from training.evaluation.judge import Judge
from training.evaluation.photos import read_photos

SEEDS = 4
RATES = {"class_rate", "top1", "top5"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a base of two breeds, an adapter of one, and an adapter of one animal."""
    catalog = Catalog([tmp_path / "models"])
    publish_base(catalog, "tiny", breeds=["beagle", "pug"], class_prompt="a photo of a dog")
    training = {"photos": 8, "config": {"dataset": "rex", "rank": 2}}
    publish_adapter(catalog, "pugs", breeds=["pug"], training=training)
    publish_adapter(catalog, "fido", instance_prompts=["a photo of rex dog"], training=training)
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    return tmp_path


def read(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return record


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_command_judges_breeds_beside_photos_and_base_and_repeats_itself(
    home: Path, listed_breeds: Path, tmp_path: Path
) -> None:
    """Once as a user starts it, into the model's folder; once more elsewhere: the same figures, to
    the rounding of batches, which are made up as the requests come."""
    folder = home / "models" / "pugs"
    before = names(folder)
    command = ["evaluate", "pugs", "--dataset", str(listed_breeds), "--seeds", "8"]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-m", "training", *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = {"evaluation.json", "README.md", "samples.jpg", "breeds.png", "neighbours.jpg"}
    assert names(folder) == before | written

    record = read(folder)
    assert set(record["sets"]) == {"drawn", "spanish", "before", "reconstructed", "real"}
    assert [row["breed"] for row in record["breeds"]] == ["pug"]
    assert [row["breed"] for row in record["other_breeds"]] == ["beagle"]
    assert set(record["other_breeds"][0]["drawn"]) == RATES
    assert record["real_photos"]["seen_in_training"] is False
    assert record["copying"]["training_photos"] == 8
    assert 0 < record["class"]["drift"] < 1

    manifest = Catalog([home / "models"]).get("pugs").manifest
    assert manifest.evaluation["drawn"] == record["sets"]["drawn"]
    assert manifest.training["photos"] == 8
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "base_model: tiny" in card and "| pug | " in card
    for picture in ("samples.jpg", "breeds.png", "neighbours.jpg"):
        Image.open(folder / picture).load()

    before_second = (folder / MANIFEST_FILE).read_bytes()
    assert main([*command, "--output", str(tmp_path / "elsewhere")]) == 0
    assert (folder / MANIFEST_FILE).read_bytes() == before_second
    again = read(tmp_path / "elsewhere")
    assert again.pop("evaluated") >= record.pop("evaluated")
    times, _ = again.pop("one_picture"), record.pop("one_picture")
    assert set(times["seconds"]) == {"pugs", "tiny"} and min(times["seconds"].values()) > 0
    assert "s by `pugs`" in card
    figures, repeated = dict(numbers(record)), dict(numbers(again))
    assert repeated.keys() == figures.keys()
    assert repeated == pytest.approx(figures, rel=0.05, abs=1 / 8)  # one picture of eight


def numbers(value: object, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number in a record, by where it stands."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]
    for key, part in parts:
        if isinstance(part, dict | list):
            yield from numbers(part, f"{path}/{key}")
        elif isinstance(part, int | float):
            yield f"{path}/{key}", part


def test_a_base_is_judged_without_a_before(home: Path, listed_breeds: Path, tmp_path: Path) -> None:
    command = ["evaluate", "tiny", "--dataset", str(listed_breeds), "--seeds", str(SEEDS)]
    command += ["--prompts", "a pug in the snow", "--prompts", "two dogs"]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    record = read(tmp_path / "out")
    assert set(record["sets"]) == {"drawn", "spanish", "reconstructed", "real"}
    assert record["other_breeds"] == []
    assert "drift" not in record["class"]
    assert set(record["prompts"][0]) >= RATES
    assert "top5" not in record["prompts"][1]


def test_an_animal_is_judged_beside_photos_of_its_own(
    home: Path, rex: Path, photos: Path, tiny_clip: Path, tiny_dino: Path
) -> None:
    copytree(rex, home / "data" / "rex")  # where the manifest's dataset lies by default
    command = ["evaluate", "fido", "--photos", str(photos), "--seeds", str(SEEDS)]
    assert main([*command, "--clip", str(tiny_clip), "--dino", str(tiny_dino)]) == 0
    folder = home / "models" / "fido"
    record = read(folder)
    assert record["animal"] == {"name": "rex", "class": "dog"}
    assert record["real_photos"] == {"photos": 4, "seen_in_training": False}
    assert set(record["sets"]) == {
        *("drawn", "spanish", "class", "drawn_before", "spanish_before", "class_before"),
        *("real", "reconstructed"),
    }
    assert all(-1 <= found["similarity"] <= 1 for found in record["sets"].values())
    assert record["sets"]["real"]["similarity"] > record["sets"]["drawn"]["similarity"]
    assert record["copying"]["training_photos"] == 4
    protocol = record["dreambooth_protocol"]
    assert (protocol["prompts"], protocol["pictures_per_prompt"]) == (25, 4)
    assert {"clip_i", "clip_t", "dino", "dino_real"} <= set(protocol)
    assert "CLIP-I" in (folder / "README.md").read_text(encoding="utf-8")
    assert (folder / "neighbours.jpg").is_file()


def test_an_evaluation_without_the_photos_of_the_training_does_not_claim_to_know_them(
    home: Path, photos: Path, tmp_path: Path
) -> None:
    command = ["evaluate", "fido", "--photos", str(photos), "--seeds", str(SEEDS)]
    assert main([*command, "--output", str(tmp_path)]) == 0
    assert read(tmp_path)["real_photos"] == {"photos": 4, "seen_in_training": None}
    assert "may have been trained on" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_a_drawn_training_photo_is_found_and_shown_first(listed_breeds: Path) -> None:
    judge = Judge()
    photos = read_photos(listed_breeds, 32)
    features = judge(photos.pictures).features
    rows = photos.rows("train")
    noise = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    drawn = torch.cat([noise, photos.pictures[rows[3:4]].flip(-1)])
    record, neighbours = find_copies(judge, drawn, judge(drawn).features, photos, features, rows)
    assert record["features"]["rate"] == pytest.approx(1 / 3)
    assert record["pixels"]["rate"] == pytest.approx(1 / 3)
    assert torch.equal(neighbours[0, 0], drawn[2])
    assert torch.equal(neighbours[0, 1], photos.pictures[rows[3]])
    assert torch.equal(neighbours[0, 2], photos.pictures[rows[3]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody"], "no model is called 'nobody'"),
        (["pugs"], "dataset: needed"),
        (["pugs", "--dataset", "nowhere"], "'nowhere' holds no prepared dataset"),
        (["pugs", "--dataset", "REX"], "has no pug"),
        (["pugs", "--dataset", "UNLISTED"], "0 photos of pug on its test list"),
        (["pugs", "--dataset", "LISTED", "--seeds", "2"], "seeds: gives 2 pictures"),
        (["pugs", "--seeds", "1"], "seeds: 1 is not from 2"),
        (["pugs", "--clip", "x"], "'pugs' was taught breeds"),
        (["fido", "--photos", "nowhere"], "'nowhere' is no folder"),
        (["fido", "--dataset", "REX", "--clip", "nowhere"], "clip: 'nowhere' cannot be loaded"),
        (["pugs", "--output", "FILE"], "is no folder"),
    ],
)
def test_a_bad_command_ends_with_one_line_and_writes_nothing(
    arguments: list[str],
    message: str,
    home: Path,
    rex: Path,
    two_breeds: Path,
    listed_breeds: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(home)
    (home / "file").write_text("")
    places = {"REX": rex, "UNLISTED": two_breeds, "LISTED": listed_breeds, "FILE": home / "file"}
    assert main(["evaluate", *(str(places.get(word, word)) for word in arguments)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not list((home / "models").rglob("evaluation.json"))

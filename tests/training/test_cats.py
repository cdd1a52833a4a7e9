"""Cats go through the same training and evaluation as dogs."""

import json
from pathlib import Path

import pytest

from models.catalog import Catalog
from tests.tiny import publish_base
from training.__main__ import main
from training.base_unet import StageConfig, UNetConfig
from training.captioning import base_captions
from training.config import ConfigError
from training.pretrain import PretrainConfig, load_photos
from training.subjects import read_subjects


def test_kinds_are_called_by_their_names_and_the_class_by_its_own(cats: Path) -> None:
    subjects = read_subjects(cats)
    assert subjects.instance_prompts == [
        "a photo of a Bengal",
        "a photo of a Siamese",
        "a photo of a cat",
    ]
    assert subjects.breeds == ["Bengal", "Siamese", "cat"]
    assert subjects.class_word == "cat"
    spoken = {text for texts in subjects.prompts for text in texts}
    assert "una foto de un gato siamés" in spoken
    assert not any("dog" in text or "perro" in text for text in spoken)


def test_kinds_are_chosen_by_either_name(cats: Path) -> None:
    assert read_subjects(cats, ["siames", "BENGAL"]).breeds == ["Bengal", "Siamese"]
    with pytest.raises(ConfigError, match="breeds: the dataset has no Persian"):
        read_subjects(cats, ["Persian"])


def test_the_test_list_can_be_left_to_the_evaluation(cats: Path) -> None:
    assert len(read_subjects(cats).pictures) == 24
    assert len(read_subjects(cats, split="train").pictures) == 12


def test_a_base_may_be_pretrained_on_cats(cats: Path) -> None:
    small = UNetConfig(stages=(StageConfig(32, 1),))
    config = PretrainConfig(dataset=cats, exclude_breeds=("siamés",), resolution=32, unet=small)
    photos = load_photos(
        config.dataset, config.resolution, config.exclude_breeds, config.held_out, config.seed
    )
    assert photos.shown.word == "cat"
    assert {name for name, _, _ in photos.kinds} == {"Bengal", "cat"}
    texts = base_captions("Siamese", "siamés", "portrait", shown=photos.shown)
    assert "un gato siamés en la playa" in texts
    assert not any("perro" in text for text in texts)


def test_cats_are_taught_and_judged_by_the_commands_for_dogs(
    cats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base knows dogs: the evaluation tells what became of them, by the class prompt kept."""
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    catalog = Catalog([tmp_path / "models"])
    publish_base(catalog, "tiny", breeds=["beagle", "pug"], class_prompt="a photo of a dog")
    recipe = tmp_path / "cats.toml"
    recipe.write_text(
        f'name = "cats"\nbase = "tiny"\ndataset = "{cats}"\nsplit = "train"\nsteps = 2\n'
        'rank = 2\nwarmup = 0\nclass_images = 2\nclass_prompts = ["a photo of a dog"]\n'
        "validate_every = 0\nsample_images = 0\n"
    )
    assert main(["dreambooth", "--config", str(recipe)]) == 0
    manifest = catalog.get("cats").manifest
    assert manifest.breeds == ["Bengal", "Siamese", "cat"]
    assert manifest.class_prompt == "a photo of a dog"

    assert main(["evaluate", "cats", "--dataset", str(cats), "--seeds", "4"]) == 0
    record = json.loads((tmp_path / "models" / "cats" / "evaluation.json").read_text())
    assert record["real_photos"] | {"dataset_fingerprint": ""} == {
        "dataset_fingerprint": "",
        "crop": "whole",
        "class": "cat",
        "official_lists": False,
        "test_photos": 12,
        "reference_photos": 12,
        "seen_in_training": False,
    }
    assert {"class_rate", "own_kind"} <= set(record["sets"]["drawn"])
    assert "top5" not in record["sets"]["drawn"]
    assert record["breeds"][1]["spanish_prompt"] == "una foto de un siamés"
    dogs = {row["breed"]: row["before"] for row in record["other_breeds"]}
    assert set(dogs) == {"beagle", "pug"} and "top5" in dogs["pug"]
    assert record["class"]["prompt"] == "a photo of a dog" and record["class"]["drift"] > 0
    card = (tmp_path / "models" / "cats" / "README.md").read_text()
    assert "| cat | own kind |" in card and "Stanford" not in card

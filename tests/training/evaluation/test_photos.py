"""Real photos as rows: which split, which crop, which photo."""

import shutil
from pathlib import Path

import pytest
import torch

from data.errors import DataError
from tests.tiny import tiny_manifest
from training.config import ConfigError
from training.evaluation.breeds import saw_test_photos, spread
from training.evaluation.photos import crop_photos, needed_dataset, read_photos


def test_rows_are_found_by_split_crop_and_breed(listed_breeds: Path) -> None:
    photos = read_photos(listed_breeds, 32)
    assert photos.pictures.shape == (64, 3, 32, 32)
    assert photos.best_crop == "portrait"
    chosen = photos.rows("test", "box", {"pug"})
    assert len(chosen) == 8
    assert {photos.names[row] for row in chosen} == {"pug"}
    assert {photos.splits[row] for row in chosen} == {"test"}
    both_crops = photos.rows("test", None, {"pug"})
    assert len(both_crops) == 16
    assert len(photos.photo[both_crops].unique()) == 8


def test_the_middle_of_each_picture_is_taken(listed_breeds: Path) -> None:
    whole, middle = read_photos(listed_breeds, 36), read_photos(listed_breeds, 32)
    assert torch.equal(whole.pictures[..., 2:-2, 2:-2], middle.pictures)


def test_own_photos_are_cropped_as_for_training(photos: Path) -> None:
    found = crop_photos(photos, 32, "rex", "dog")
    assert len(found.photo.unique()) == 4
    assert set(found.crops) == {"portrait", "whole"}


def test_spread_takes_rows_at_even_distances() -> None:
    assert spread(torch.arange(10), 3).tolist() == [0, 3, 6]
    assert spread(torch.arange(2), 3).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("used", "saw"), [(32, False), (33, True), ({"training": 30, "held_out": 3}, True), (0, False)]
)
def test_a_run_that_read_more_pictures_than_the_train_list_has_saw_test_photos(
    listed_breeds: Path, used: object, saw: bool
) -> None:
    manifest = tiny_manifest("m", training={"photos": used})
    assert saw_test_photos(manifest, read_photos(listed_breeds, 32)) is saw


def test_a_dataset_that_cannot_be_used_is_refused(listed_breeds: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no prepared dataset"):
        read_photos(tmp_path, 32)
    with pytest.raises(ConfigError, match="has no Samoyed"):
        read_photos(listed_breeds, 32, ["pug", "Samoyed"])
    with pytest.raises(ConfigError, match="36 px, the model draws 128 px"):
        read_photos(listed_breeds, 128)
    with pytest.raises(ConfigError, match="give --dataset"):
        needed_dataset(None)
    with pytest.raises(DataError, match="is no folder"):
        crop_photos(tmp_path / "none", 32, "rex", "dog")
    shutil.copytree(listed_breeds, tmp_path / "broken")
    (tmp_path / "broken" / "report.json").unlink()
    with pytest.raises(ConfigError, match="holds no prepared dataset"):
        read_photos(tmp_path / "broken", 32)

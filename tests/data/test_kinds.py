"""Photos by kind, from folders or from the names of files."""

from dataclasses import replace

import datasets
import pytest

from data.classes import photo_class
from data.kinds import kinds_in, part_photos, prepare_kinds
from data.prepare import FEATURES
from data.selection import Settings
from data.stanford import SourceError

CATS = photo_class("cat")
SETTINGS = Settings(crops=("whole",), resolution=32, dedup_distance=None)


@pytest.fixture
def cats(tmp_path, dog):
    """Ten photos of three names, and what else lies about."""
    folder = tmp_path / "cats"
    folder.mkdir()
    for number in range(10):
        kind = ("Bengal_", "Siamese_", "cat.", "cat.", "cat.")[number % 5]
        dog((90, 90), number).save(folder / f"{kind}{number}.jpg")
    (folder / ".DS_Store").write_bytes(b"junk")
    return folder


def prepared(folder, output, **more):
    report = prepare_kinds(folder, output, CATS, SETTINGS, **more)
    return datasets.load_from_disk(str(output)), report


def test_names_tell_the_kinds(cats):
    assert {kind: len(files) for kind, files in kinds_in(cats).items()} == {
        "Bengal": 2,
        "Siamese": 2,
        "cat": 6,
    }


def test_folders_tell_the_kinds_where_there_are_any(cats, tmp_path):
    for kind in ("Maine_Coon", "Sphynx"):
        (tmp_path / "sorted" / kind).mkdir(parents=True)
    (cats / "cat.2.jpg").rename(tmp_path / "sorted" / "Maine_Coon" / "1.jpg")
    (cats / "cat.3.jpg").rename(tmp_path / "sorted" / "Sphynx" / "IMG_7.jpg")
    assert list(kinds_in(tmp_path / "sorted")) == ["Maine Coon", "Sphynx"]


def test_each_photo_becomes_a_row_with_captions_of_its_kind(cats, tmp_path):
    dataset, report = prepared(cats, tmp_path / "out", spanish={"Siamese": "siamés"})
    assert dataset.features == FEATURES and len(dataset) == 10
    rows = {row["source"]: row for row in dataset}
    assert rows["Siamese_1.jpg"]["breed"] == "Siamese"
    assert rows["Siamese_1.jpg"]["breed_es"] == "siamés"
    assert "Siamese" in rows["Siamese_1.jpg"]["caption_en"]
    assert rows["cat.2.jpg"]["breed_es"] == "gato"
    assert rows["cat.2.jpg"]["caption_en"].count("cat") == 1
    assert set(dataset["synset"]) == {""}
    assert report["arguments"]["class"] == "cat"
    assert "split" not in report["arguments"]


def test_a_share_of_each_kind_is_its_test_list_and_always_the_same(cats, tmp_path):
    dataset, _ = prepared(cats, tmp_path / "out", held_out=0.5)
    tested = [row["breed"] for row in dataset if row["split"] == "test"]
    assert sorted(tested) == ["Bengal", "Siamese", "cat", "cat", "cat"]
    again, _ = prepared(cats, tmp_path / "again", held_out=0.5)
    assert again["split"] == dataset["split"]
    none, _ = prepared(cats, tmp_path / "none", held_out=0)
    assert set(none["split"]) == {"train"}


def test_fewer_photos_of_a_kind_have_the_same_share_held_out(tmp_path, dog):
    """Of 15 Bengals drawn from 32 none was on the test list: the list was drawn before them."""
    for number in range(40):
        dog((40, 40), number).save(tmp_path / f"{('a', 'b')[number % 2]}{number}.png")
    settings = replace(SETTINGS, per_class=10, min_side=8)
    report = prepare_kinds(tmp_path, tmp_path / "out", CATS, settings, held_out=0.2)
    splits = datasets.load_from_disk(str(tmp_path / "out"))["split"]
    assert report["rows"] == 20
    assert list(splits).count("test") == 4


def test_a_small_kind_holds_one_photo_out(cats):
    photos = kinds_in(cats)["Bengal"]
    assert [entry.split for entry in part_photos(cats, photos, 0.1, "0")].count("test") == 1


def test_what_cannot_be_sorted_is_refused(cats, tmp_path, dog):
    with pytest.raises(SourceError, match="spanish: no photos of Persian"):
        prepared(cats, tmp_path / "out", spanish={"Persian": "persa"})
    dog((90, 90)).save(cats / "12.jpg")
    with pytest.raises(SourceError, match=r"'12.jpg' in .* names no kind"):
        prepared(cats, tmp_path / "out")
    with pytest.raises(SourceError, match="is no folder"):
        kinds_in(tmp_path / "nowhere")
    (tmp_path / "empty" / "Bengal").mkdir(parents=True)
    with pytest.raises(SourceError, match="no photos in"):
        kinds_in(tmp_path / "empty")


def test_photos_of_one_kind_are_refused_also_beside_files_that_are_no_photos(tmp_path, dog):
    folder = tmp_path / "mine"
    folder.mkdir()
    for number in range(3):
        dog((90, 90), number).save(folder / f"IMG_{number}.jpg")
    (folder / "notes.txt").write_text("no picture")
    with pytest.raises(SourceError, match="show one kind, 'IMG'"):
        prepared(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()

"""From a folder of photos to a dataset with a report and a contact sheet."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from data.breeds import find_breeds
from data.prepare import FEATURES, NothingKept, OutputError, prepare, prepare_photos
from data.selection import Settings
from data.stanford import SourceError

PUG = "n02110958-pug"
BEAGLE = "n02088364-beagle"


@pytest.fixture
def run(tmp_path):
    """Prepares pugs and beagles of a source; returns the dataset and the report."""

    def run(source, output="out", **settings):
        settings = {"breeds": tuple(find_breeds(["pug", "beagle"])), "resolution": 32} | settings
        report = prepare(source.root, tmp_path / output, Settings(**settings))
        return datasets.load_from_disk(str(tmp_path / output)), report

    return run


def reasons(report, breed="pug"):
    return {Path(d["source"]).name: d["reason"] for d in report["breeds"][breed]["dropped_photos"]}


def assert_adds_up(report):
    parts = report["breeds"].values()
    for account in (*parts, report["totals"]):
        assert account["found"] == account["kept"] + account["dropped"]
        assert account["dropped"] == sum(account["reasons"].values())
    for key in ("found", "kept", "dropped", "missing"):
        assert report["totals"][key] == sum(part[key] for part in parts)
    for part in parts:
        assert len({d["source"] for d in part["dropped_photos"]}) == part["dropped"]


def test_the_dataset_has_a_row_for_each_photo_and_crop(two_breeds, run):
    dataset, report = run(two_breeds, crops=("portrait", "box", "whole"), per_class=3)
    assert dataset.features == FEATURES
    assert len(dataset) == report["rows"] == 18
    assert set(dataset["crop"]) == {"portrait", "box", "whole"}
    row = next(row for row in dataset if row["source"].endswith("/n02110958_0.jpg"))
    assert row["image"].size == (32, 32) and row["image"].mode == "RGB"
    assert row["synset"] == "n02110958" and row["breed"] == "pug" and row["breed_es"] == "carlino"
    assert row["split"] == "train" and row["source"] == f"Images/{PUG}/n02110958_0.jpg"
    assert "pug" in row["caption_en"] and "carlino" in row["caption_es"]


def test_the_box_crop_shows_the_box(stanford, run):
    image = Image.new("RGB", (200, 120), "white")
    image.paste("red", (110, 20, 190, 100))
    stanford.add(PUG, "a.png", image, boxes=[(110, 20, 190, 100)])
    dataset, _ = run(stanford, margin=1.0)
    assert np.asarray(dataset[0]["image"])[4:-4, 4:-4].mean((0, 1)) == pytest.approx(
        (254, 0, 0), abs=3
    )


def test_a_box_on_a_rotated_photo_is_turned_with_it(stanford, run):
    image = Image.new("RGB", (200, 120), "white")
    image.paste("red", (110, 20, 190, 100))
    exif = Image.Exif()
    exif[0x0112] = 6
    stanford.add(PUG, "a.png", image, boxes=[(110, 20, 190, 100)], exif=exif)
    dataset, _ = run(stanford, margin=1.0)
    assert np.asarray(dataset[0]["image"])[4:-4, 4:-4].mean((0, 1)) == pytest.approx(
        (254, 0, 0), abs=3
    )


def test_all_kinds_of_junk_are_reported_and_skipped(two_breeds, dog, run):
    two_breeds.put(PUG, ".DS_Store", b"\0\0\0\1Bud1")
    two_breeds.put(PUG, "notes.txt", b"hello")
    good = two_breeds.add(PUG, "cut.jpg", seed=50)
    good.write_bytes(good.read_bytes()[:1000])
    two_breeds.add(PUG, "moving.gif", dog(seed=51), save_all=True, append_images=[dog(seed=52)])
    two_breeds.add(PUG, "outside.jpg", boxes=[(400, 300, 500, 400)], seed=53)
    two_breeds.add(PUG, "bad_xml.jpg", seed=54)
    two_breeds.annotate(PUG, "bad_xml.jpg", "<annotation><obj")
    (two_breeds.root / "Images" / PUG / "folder").mkdir()
    (two_breeds.root / "Images" / "other").mkdir()
    dataset, report = run(two_breeds)
    assert reasons(report) == {
        ".DS_Store": "not a picture",
        "notes.txt": "not a picture",
        "cut.jpg": "truncated or damaged picture",
        "moving.gif": "animated picture",
        "outside.jpg": "box outside the picture",
        "bad_xml.jpg": "unreadable annotation",
        "folder": "not a file",
    }
    assert report["breeds"]["pug"]["missing_photos"] == [f"{PUG}/n02110958_99.jpg"]
    assert report["ignored"] == ["other"]
    assert len(dataset) == 7
    assert_adds_up(report)


def test_odd_but_readable_photos_are_kept(stanford, dog, run):
    stanford.add(PUG, "cmyk.jpg", dog(seed=1).convert("CMYK"))
    stanford.add(PUG, "palette.png", dog(seed=2).quantize(64))
    grey = np.asarray(dog(seed=3).convert("L")).astype(np.uint16) * 257
    stanford.add(PUG, "deep.png", Image.fromarray(grey))
    stanford.add(PUG, "clear.png", dog(seed=4).convert("RGBA"))
    stanford.put(PUG, "no_annotation.jpg", stanford.add(BEAGLE, "b.jpg", seed=5).read_bytes())
    dataset, report = run(stanford, breeds=tuple(find_breeds(["pug"])))
    assert report["totals"]["kept"] == len(dataset) == 5


def test_a_box_that_sticks_out_is_clipped_and_told(stanford, run):
    stanford.add(PUG, "a.jpg", boxes=[(-30, 10, 140, 300)])
    _, report = run(stanford)
    assert report["breeds"]["pug"]["clipped_boxes"] == 1


@pytest.mark.parametrize(("boxes", "kept"), [("largest", 1), ("drop", 0)])
def test_several_boxes_give_the_largest_or_none(stanford, run, boxes, kept):
    stanford.add(BEAGLE, "b.jpg", seed=1)
    stanford.add(PUG, "a.jpg", boxes=[(0, 0, 70, 70), (20, 10, 140, 110)], seed=2)
    _, report = run(stanford, boxes=boxes)
    assert report["breeds"]["pug"]["kept"] == kept
    assert reasons(report) == ({} if kept else {"a.jpg": "several boxes"})


def test_small_and_long_boxes_are_dropped(stanford, run):
    stanford.add(PUG, "small.jpg", boxes=[(0, 0, 50, 50)], seed=1)
    stanford.add(PUG, "long.jpg", boxes=[(0, 0, 160, 70)], seed=2)
    stanford.add(PUG, "good.jpg", boxes=[(0, 0, 100, 70)], seed=3)
    _, report = run(stanford, max_aspect=2.0)
    assert reasons(report) == {"small.jpg": "box too small", "long.jpg": "box too long"}


def test_the_official_split_is_kept_to(two_breeds, run):
    dataset, report = run(two_breeds, split="test")
    assert dataset["source"][:] == [f"Images/{PUG}/n02110958_2.jpg"]
    assert report["totals"]["reasons"] == {"not in the test list": 6}
    assert_adds_up(report)


def test_the_number_per_class_is_a_limit_that_adds_up(two_breeds, run):
    dataset, report = run(two_breeds, per_class=2)
    assert [row["breed"] for row in dataset] == ["pug"] * 2 + ["beagle"] * 2
    assert report["totals"]["reasons"] == {"beyond the number per class": 3}
    assert_adds_up(report)


def test_duplicates_are_dropped_unless_wanted(two_breeds, dog, run):
    original = two_breeds.root / "Images" / PUG / "n02110958_0.jpg"
    two_breeds.put(BEAGLE, "copy.jpg", original.read_bytes())
    two_breeds.add(PUG, "zz.jpg", dog(seed=0), quality=50)
    _, report = run(two_breeds, dedup_distance=6)
    assert reasons(report, "pug") == {"zz.jpg": "near-duplicate"}
    assert reasons(report, "beagle") == {"copy.jpg": "identical file"}
    _, report = run(two_breeds, "all", dedup_distance=None)
    assert report["totals"]["dropped"] == 0


def test_the_same_seed_gives_the_same_dataset(two_breeds, run):
    first, report = run(two_breeds, "a", per_class=1, crops=("portrait", "box"))
    second, again = run(two_breeds, "b", per_class=1, crops=("portrait", "box"))
    assert report["fingerprint"] == again["fingerprint"]
    assert first.data.table == second.data.table


def test_another_seed_draws_other_photos_or_captions(two_breeds, run):
    prints = {run(two_breeds, str(s), per_class=2, seed=s)[1]["fingerprint"] for s in range(3)}
    assert len(prints) == 3


def test_the_report_and_the_sheet_lie_in_the_dataset(two_breeds, run, tmp_path):
    _, report = run(two_breeds)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(
        json.dumps(report)
    )
    assert str(tmp_path) not in (tmp_path / "out" / "report.json").read_text()
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.width > 4 * 96 and sheet.height > 2 * 96
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_output_that_is_there_is_left_alone(two_breeds, run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(OutputError, match="--overwrite"):
        run(two_breeds)
    assert (tmp_path / "out" / "mine").exists()
    prepare(
        two_breeds.root, tmp_path / "out", Settings(tuple(find_breeds(["pug"]))), overwrite=True
    )
    assert not (tmp_path / "out" / "mine").exists()


def test_a_failure_leaves_nothing_behind(two_breeds, run, tmp_path, monkeypatch):
    def fail(*args):
        raise RuntimeError("no pen")

    monkeypatch.setattr("data.prepare.contact_sheet", fail)
    with pytest.raises(RuntimeError, match="no pen"):
        run(two_breeds)
    assert [path.name for path in tmp_path.iterdir()] == ["dogs"]


def test_nothing_to_keep_is_an_error_with_the_reasons(two_breeds, run):
    with pytest.raises(NothingKept, match="7 box too small"):
        run(two_breeds, min_side=5000)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("split", "x"),
        ("crops", ()),
        ("crops", ("face",)),
        ("per_class", 0),
        ("margin", float("nan")),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(key, value):
    with pytest.raises(ValueError, match=f"{key} must be"):
        Settings(**{key: value})


def test_a_users_own_photos_get_the_same_columns(tmp_path, dog):
    folder = tmp_path / "rex"
    folder.mkdir()
    for i in range(4):
        dog((300, 400), seed=i).save(folder / f"{i}.jpg")
    (folder / ".DS_Store").write_bytes(b"junk")
    settings = Settings(crops=("portrait", "whole"), resolution=48)
    report = prepare_photos(folder, tmp_path / "out", "rex", "dog", settings)
    dataset = datasets.load_from_disk(str(tmp_path / "out"))
    assert dataset.features == FEATURES and len(dataset) == 8
    assert set(dataset["breed"]) == {"rex"} and set(dataset["synset"]) == {""}
    assert all("rex dog" in caption for caption in dataset["caption_en"])
    assert dataset[0]["source"] == "0.jpg"
    assert report["breeds"]["rex"]["reasons"] == {"not a picture": 1}
    assert_adds_up(report)


def test_a_folder_that_is_none_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="nowhere"):
        prepare_photos(tmp_path / "nowhere", tmp_path / "out", "rex", "dog", Settings())


def test_two_real_breeds_are_prepared(tmp_path):
    """The shared photos, where they are: crops of real heads and a report that adds up."""
    source = Path(__file__).parents[3] / "shared" / "data" / "stanford_dogs"
    if not source.is_dir():
        pytest.skip("no Stanford Dogs photos beside the repository (../shared/data/stanford_dogs)")
    settings = Settings(
        tuple(find_breeds(["golden retriever", "carlino"])), per_class=3, crops=("portrait", "box")
    )
    report = prepare(source, tmp_path / "out", settings)
    dataset = datasets.load_from_disk(str(tmp_path / "out"))
    assert len(dataset) == 12 and dataset[0]["image"].size == (128, 128)
    assert_adds_up(report)
    assert np.asarray(dataset[0]["image"]).std() > 10

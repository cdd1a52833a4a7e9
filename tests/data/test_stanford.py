"""The layout, lists and annotations of Stanford Dogs."""

import numpy as np
import pytest
from scipy.io import savemat

from data.breeds import find_breeds
from data.stanford import BadAnnotation, SourceError, read_boxes, read_index, read_splits

PUG = "n02110958-pug"


def test_the_index_holds_every_file_with_split_and_annotation(two_breeds):
    (pug,) = find_breeds(["pug"])
    entries = read_index(two_breeds.root, [pug]).entries[pug]
    assert [entry.split for entry in entries] == ["train", "train", "test", ""]
    assert entries[0].source == f"Images/{PUG}/n02110958_0.jpg"
    assert entries[0].annotation == two_breeds.root / "Annotation" / PUG / "n02110958_0"


def test_listed_photos_that_are_not_there_are_told(two_breeds):
    (pug,) = find_breeds(["pug"])
    assert read_index(two_breeds.root, [pug]).missing[pug] == [f"{PUG}/n02110958_99.jpg"]


def test_what_is_no_breed_is_ignored_and_told(two_breeds):
    two_breeds.put("n0-cats", "a.jpg", b"")
    (two_breeds.root / "Images" / ".DS_Store").write_bytes(b"")
    assert read_index(two_breeds.root, []).ignored == [".DS_Store", "n0-cats"]


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="Images"):
        read_index(tmp_path, [])


def test_official_mat_lists_are_read(tmp_path):
    cells = np.empty((2, 1), object)
    cells[:, 0] = [f"{PUG}/a.jpg", f"{PUG}/b.jpg"]
    savemat(tmp_path / "train_list.mat", {"file_list": cells})
    assert read_splits(tmp_path) == {f"{PUG}/a.jpg": "train", f"{PUG}/b.jpg": "train"}


def test_a_damaged_list_is_an_error(tmp_path):
    (tmp_path / "test_list.mat").write_bytes(b"junk" * 100)
    with pytest.raises(SourceError, match="test_list.mat"):
        read_splits(tmp_path)


def test_boxes_are_read(tmp_path, xml):
    (tmp_path / "a").write_text(xml((100, 80), [(1, 2, 30, 40), (5, 6, 70, 80)]))
    assert read_boxes(tmp_path / "a", (100, 80)) == [(1, 2, 30, 40), (5, 6, 70, 80)]


def test_boxes_follow_a_resized_picture(tmp_path, xml):
    (tmp_path / "a").write_text(xml((100, 80), [(10, 20, 30, 40)]))
    assert read_boxes(tmp_path / "a", (200, 80)) == [(20, 20, 60, 40)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no xml",
        "<a>",
        "<annotation><object><bndbox><xmin>x</xmin></bndbox></object></annotation>",
    ],
)
def test_a_damaged_annotation_is_an_error_of_its_own(tmp_path, text):
    (tmp_path / "a").write_text(text)
    with pytest.raises(BadAnnotation):
        read_boxes(tmp_path / "a", (100, 80))

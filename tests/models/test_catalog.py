import json
import threading
from pathlib import Path

import pytest

from models.catalog import Catalog
from models.errors import InvalidModel, ModelExists, ModelNotFound
from models.manifest import ADAPTER_FILE, PIPELINE_FILE, write_manifest
from tests.tiny import tiny_manifest


def publish(catalog: Catalog, name: str, text: str = "{}", replace: bool = False) -> None:
    with catalog.publish(tiny_manifest(name), replace) as folder:
        (folder / PIPELINE_FILE).write_text(text)
        (folder / "later.txt").write_text(text)


def names(catalog: Catalog) -> list[str]:
    return [entry.manifest.name for entry in catalog.entries()]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def empty(root: Path) -> Catalog:
    return Catalog([root])


def test_a_catalog_without_a_folder_is_empty(empty: Catalog) -> None:
    assert names(empty) == []


def test_models_are_listed_by_name(empty: Catalog) -> None:
    publish(empty, "rex")
    publish(empty, "ava")
    assert names(empty) == ["ava", "rex"]


def test_nothing_is_listed_while_a_model_is_being_published(empty: Catalog) -> None:
    with empty.publish(tiny_manifest("rex")) as folder:
        (folder / PIPELINE_FILE).write_text("{}")
        assert names(empty) == []
    assert names(empty) == ["rex"]


def test_a_crash_in_the_middle_leaves_nothing(empty: Catalog, root: Path) -> None:
    def crash() -> None:
        with empty.publish(tiny_manifest("rex")) as folder:
            (folder / PIPELINE_FILE).write_text("{}")
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        crash()
    assert list(root.iterdir()) == []


def test_a_failed_replacement_leaves_the_old_model(empty: Catalog) -> None:
    publish(empty, "rex", "old")
    with pytest.raises(RuntimeError), empty.publish(tiny_manifest("rex"), replace=True):
        raise RuntimeError
    assert (empty.get("rex").folder / PIPELINE_FILE).read_text() == "old"


def test_publishing_without_weights_is_refused(empty: Catalog) -> None:
    manifest = tiny_manifest("rex", kind="adapter", base="tiny")
    with pytest.raises(InvalidModel, match=ADAPTER_FILE), empty.publish(manifest):
        pass
    assert names(empty) == []


def test_a_name_is_published_once_unless_replaced(empty: Catalog) -> None:
    publish(empty, "rex", "old")
    with pytest.raises(ModelExists, match="'rex'"):
        publish(empty, "rex", "new")
    publish(empty, "rex", "new", replace=True)
    assert (empty.get("rex").folder / PIPELINE_FILE).read_text() == "new"


def test_a_manifest_that_was_written_over_is_read_anew(empty: Catalog) -> None:
    publish(empty, "rex", "weights")
    folder = empty.get("rex").folder
    write_manifest(folder, tiny_manifest("rex").model_copy(update={"description": "a good dog"}))
    assert empty.get("rex").manifest.description == "a good dog"


def test_of_two_publishers_at_once_the_second_is_told(empty: Catalog, root: Path) -> None:
    def publish_late() -> None:
        with empty.publish(tiny_manifest("rex")) as folder:
            (folder / PIPELINE_FILE).write_text("late")
            publish(empty, "rex", "early")

    with pytest.raises(ModelExists):
        publish_late()
    assert [path.name for path in root.iterdir()] == ["rex"]
    assert (root / "rex" / PIPELINE_FILE).read_text() == "early"


def test_a_replacement_has_another_revision(empty: Catalog) -> None:
    publish(empty, "rex")
    revision = empty.get("rex").revision
    assert empty.get("rex").revision == revision
    publish(empty, "rex", replace=True)
    assert empty.get("rex").revision != revision


def test_a_reader_never_sees_half_a_model_while_it_is_replaced(empty: Catalog) -> None:
    """Whoever lists during a replacement finds every model, whole."""
    publish(empty, "rex", "0")
    done = threading.Event()

    def replace() -> None:
        for number in range(1, 30):
            publish(empty, "rex", str(number), replace=True)
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    listings = 0
    while not done.is_set():
        assert names(empty) == ["rex"]
        listings += 1
    writer.join()
    assert listings > 1


def test_half_and_hidden_folders_are_not_listed(empty: Catalog, root: Path) -> None:
    publish(empty, "rex")
    (root / "no-manifest").mkdir()
    (root / "bad-manifest").mkdir()
    (root / "bad-manifest" / "manifest.json").write_text('{"name": "bad-manifest"}')
    (root / "no-weights").mkdir()
    write_manifest(root / "no-weights", tiny_manifest("no-weights"))
    (root / "other-name").mkdir()
    write_manifest(root / "other-name", tiny_manifest("rex"))
    (root / ".hidden").mkdir()
    (root / "file").write_text("")
    assert names(empty) == ["rex"]


def test_a_broken_manifest_is_named_with_its_field(empty: Catalog, root: Path) -> None:
    publish(empty, "rex")
    path = root / "rex" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"resolution": "big"}))
    with pytest.raises(InvalidModel, match=r"^rex/manifest.json: resolution: "):
        empty.get("rex")


def test_an_unknown_name_is_answered_with_those_that_exist(empty: Catalog) -> None:
    publish(empty, "rex")
    publish(empty, "ava")
    with pytest.raises(ModelNotFound, match="'max'; there are ava, rex"):
        empty.get("max")


@pytest.mark.parametrize("name", ["../rex", "/etc", ".", "", "rex/", "Rex", "rex\n", ".rex"])
def test_no_name_leaves_the_roots(empty: Catalog, name: str) -> None:
    publish(empty, "rex")
    with pytest.raises(ModelNotFound):
        empty.get(name)


def test_earlier_roots_win(tmp_path: Path) -> None:
    home, shipped = Catalog([tmp_path / "home"]), Catalog([tmp_path / "shipped"])
    publish(shipped, "rex", "shipped")
    publish(shipped, "ava", "shipped")
    both = Catalog([tmp_path / "home", tmp_path / "shipped"])
    with pytest.raises(ModelExists):
        publish(both, "rex", "home")
    publish(both, "rex", "home", replace=True)
    assert names(both) == ["ava", "rex"]
    assert both.get("rex").folder == home.get("rex").folder
    assert (shipped.get("rex").folder / PIPELINE_FILE).read_text() == "shipped"


def test_the_default_is_the_setting_then_breeds_then_base_then_the_first(empty: Catalog) -> None:
    with pytest.raises(ModelNotFound):
        empty.default_model()
    publish(empty, "ava")
    assert empty.default_model() == "ava"
    publish(empty, "dogbooth-base")
    assert empty.default_model() == "dogbooth-base"
    publish(empty, "dogbooth-breeds")
    assert empty.default_model() == "dogbooth-breeds"
    assert empty.default_model("ava") == "ava"

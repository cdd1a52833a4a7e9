"""The command line."""

import json
import tarfile

import pytest

from data.__main__ import main


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def error_of(capsys, *arguments):
    """The one line that a wrong call leaves."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and "Traceback" not in text
    return text


def test_breeds_are_listed_with_both_names(capsys):
    main(["breeds"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 120
    assert lines[0].split("  ")[0] == "n02085620"
    main(["breeds", "pastor alemán"])
    assert capsys.readouterr().out.split(maxsplit=1)[1].split("  ")[0] == "German shepherd"


def test_prepare_writes_into_the_home_folder(two_breeds, home, capsys):
    main(["prepare", "--source", str(two_breeds.root), "--breeds", "pug, beagle",
          "--exclude-breeds", "beagle", "--resolution", "32"])  # fmt: skip
    report = json.loads((home / "data" / "stanford_dogs" / "report.json").read_text())
    assert list(report["breeds"]) == ["pug"]
    assert report["arguments"]["source"] == "dogs"
    assert "4 pictures from 4 of 4 photos" in capsys.readouterr().out


def test_prepare_takes_local_archives(two_breeds, tmp_path, home):
    (tmp_path / "tars").mkdir()
    for name, member in (("images", "Images"), ("annotation", "Annotation")):
        with tarfile.open(tmp_path / "tars" / f"{name}.tar", "w") as tar:
            tar.add(two_breeds.root / member, member)
    with tarfile.open(tmp_path / "tars" / "lists.tar", "w") as tar:
        for path in (two_breeds.root / "lists").iterdir():
            tar.add(path, path.name)
    main(["prepare", "--source", str(tmp_path / "tars"), "--breeds", "pug", "--split", "train",
          "--output", str(tmp_path / "out"), "--resolution", "32"])  # fmt: skip
    assert json.loads((tmp_path / "out" / "report.json").read_text())["rows"] == 2


def test_photos_writes_into_a_folder_of_its_name(tmp_path, dog, home):
    (tmp_path / "mine").mkdir()
    dog((200, 300)).save(tmp_path / "mine" / "a.png")
    main(["photos", str(tmp_path / "mine"), "--name", "rex", "--crop", "whole"])
    report = json.loads((home / "data" / "rex" / "report.json").read_text())
    assert report["rows"] == 1 and report["arguments"]["class"] == "dog"


def test_kinds_writes_into_a_folder_of_the_source_s_name(tmp_path, dog, home, capsys):
    (tmp_path / "cats").mkdir()
    for number in range(4):
        kind = "Bengal" if number % 2 else "Siamese"
        dog((90, 90), number).save(tmp_path / "cats" / f"{kind}_{number}.png")
    main(["kinds", str(tmp_path / "cats"), "--class", "cat", "--spanish", "Siamese=siamés",
          "--crop", "whole", "--resolution", "32"])  # fmt: skip
    report = json.loads((home / "data" / "cats" / "report.json").read_text())
    assert list(report["breeds"]) == ["Bengal", "Siamese"]
    assert report["arguments"]["imagenet"] == [281, 282, 283, 284, 285]
    assert "4 pictures from 4 of 4 photos" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--imagenet", "5"),
        ("--imagenet", "9-3"),
        ("--imagenet", "990-1000"),
        ("--spanish", "Siamese"),
        ("--spanish", "=siamés"),
        ("--held-out", "1"),
        ("--class", " "),
    ],
)
def test_a_wrong_value_of_kinds_is_one_line_with_option_and_value(capsys, tmp_path, option, value):
    text = error_of(capsys, "kinds", tmp_path, "--class", "cat", option, value)
    assert option in text and repr(value) in text


def test_kinds_of_nothing_is_an_error(capsys, tmp_path):
    assert "nowhere" in error_of(capsys, "kinds", tmp_path / "nowhere", "--class", "cat")
    assert "no photos in" in error_of(capsys, "kinds", tmp_path, "--class", "cat")
    assert "--class" in error_of(capsys, "kinds", tmp_path)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--per-class", "0"),
        ("--per-class", "many"),
        ("--min-side", "-3"),
        ("--max-aspect", "0.5"),
        ("--max-aspect", "nan"),
        ("--margin", "0"),
        ("--resolution", "12.5"),
        ("--dedup-distance", "65"),
        ("--seed", "-1"),
        ("--split", "validation"),
        ("--boxes", "all"),
        ("--crop", "face"),
        ("--breeds", "goldn retreiver"),
        ("--breeds", ""),
        ("--source", "/no/such/folder"),
    ],
)
def test_a_wrong_value_is_one_line_with_option_and_value(capsys, option, value):
    text = error_of(capsys, "prepare", option, value)
    assert option in text and repr(value) in text


def test_an_unknown_breed_names_the_nearest(capsys):
    assert "golden retriever" in error_of(capsys, "breeds", "goldn retreiver")


def test_no_breed_left_is_an_error(capsys):
    text = error_of(capsys, "prepare", "--breeds", "pug", "--exclude-breeds", "pug")
    assert "--exclude-breeds" in text


def test_an_output_that_is_there_is_named(capsys, two_breeds, tmp_path):
    text = error_of(capsys, "prepare", "--source", two_breeds.root, "--output", two_breeds.root)
    assert "--output" in text and str(two_breeds.root) in text and "--overwrite" in text


def test_a_source_without_photos_is_an_error(capsys, tmp_path):
    assert "Images" in error_of(capsys, "prepare", "--source", tmp_path)


def test_photos_of_nothing_is_an_error(capsys, tmp_path):
    assert "nowhere" in error_of(capsys, "photos", tmp_path / "nowhere", "--name", "rex")
    assert "none found" in error_of(capsys, "photos", tmp_path, "--name", "rex")
    assert "--name" in error_of(capsys, "photos", tmp_path, "--name", " ")


def test_no_command_is_an_error(capsys):
    assert "COMMAND" in error_of(capsys)


def test_help_shows_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["prepare", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in ("--source", "--breeds", "--per-class", "--split", "--crop", "--no-dedup"):
        assert option in text

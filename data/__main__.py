"""Command line of the data package: `python -m data prepare --source DIR --breeds pug,beagle`."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.breeds import BREEDS, find_breeds
from data.errors import DataError
from data.options import (
    Parser,
    add_common_options,
    breeds_named,
    class_range,
    number,
    pairs,
    word,
)

if TYPE_CHECKING:  # the commands import what is slow to import
    from data.selection import Settings

EXAMPLES = """\
examples:
  python -m data breeds '*retriever'
  python -m data prepare --source stanford_dogs --breeds "golden retriever,pug" --crop portrait
  python -m data prepare                        (downloads the official archives first, 800 MB)
  python -m data photos my_photos --name rex --class dog
  python -m data kinds cats --class cat --spanish "Siamese=siamés,Bengal=bengalí"
"""


def _add_prepare(commands: Any) -> None:
    parser = commands.add_parser("prepare", help="turn Stanford Dogs into a dataset")
    add = parser.add_argument
    add(
        "--source",
        type=Path,
        metavar="DIR",
        help="folder with Images/, Annotation/ and lists/, or with images.tar, annotation.tar and "
        "lists.tar (default: download the official archives)",
    )
    add("--output", type=Path, metavar="DIR", help="default: DOGBOOTH_HOME/data/stanford_dogs")
    add(
        "--breeds",
        type=breeds_named,
        action="extend",
        metavar="NAMES",
        help="names in English or Spanish, synsets or wildcards, commas between (default: all)",
    )
    add(
        "--exclude-breeds",
        type=breeds_named,
        action="extend",
        default=[],
        metavar="NAMES",
        help="breeds to leave out",
    )
    add("--per-class", type=number(int, 1), metavar="N", help="most photos of one breed")
    add(
        "--split",
        choices=("train", "test", "all"),
        default="all",
        help="photos of an official list (default: %(default)s)",
    )
    add(
        "--boxes",
        choices=("largest", "drop"),
        default="largest",
        help="several boxes in a photo: take the largest, or drop it (default: %(default)s)",
    )
    add_common_options(parser, ["box"])


def _add_photos(commands: Any) -> None:
    parser = commands.add_parser("photos", help="turn your own photos of one animal into a dataset")
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder with the photos, 4 to 6 of them")
    add("--name", type=word, required=True, help="what to call it, best a word of no language")
    add(
        "--class",
        type=word,
        default="dog",
        dest="class_word",
        metavar="WORD",
        help="what it is (default: %(default)s)",
    )
    add("--output", type=Path, metavar="DIR", help="default: DOGBOOTH_HOME/data/NAME")
    add_common_options(parser, ["portrait", "whole"])


def _add_kinds(commands: Any) -> None:
    parser = commands.add_parser("kinds", help="turn photos of kinds of anything into a dataset")
    add = parser.add_argument
    add(
        "folder",
        type=Path,
        metavar="DIR",
        help="a folder for each kind in it, or files named by kind and number, as Bengal_12.jpg",
    )
    add(
        "--class",
        type=word,
        required=True,
        dest="class_word",
        metavar="WORD",
        help="what all are kinds of; photos of that name show no kind",
    )
    add("--class-es", type=word, metavar="WORD", help="the same in Spanish")
    add(
        "--spanish",
        type=pairs,
        default={},
        metavar="KIND=NAME,...",
        help="Spanish names of kinds",
    )
    add(
        "--imagenet",
        type=class_range,
        default=(),
        metavar="FIRST-LAST",
        help="ImageNet's classes of it, to find heads and to judge by (dogs and cats are known)",
    )
    add("--per-class", type=number(int, 1), metavar="N", help="most photos of one kind")
    add(
        "--held-out",
        type=number(float, 0, 0.9),
        default=0.2,
        metavar="SHARE",
        help="of each kind's photos, which make the test list (default: %(default)s)",
    )
    add("--output", type=Path, metavar="DIR", help="default: DOGBOOTH_HOME/data/FOLDER'S NAME")
    add_common_options(parser, ["portrait"])


def _parser() -> Parser:
    parser = Parser(
        prog="python -m data",
        description="Turns photos into a datasets.Dataset folder, with a report and a contact "
        "sheet. DOGBOOTH_HOME (default: ./artifacts) is where things go unless told otherwise.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    breeds = commands.add_parser("breeds", help="list the breeds with both names")
    breeds.add_argument("patterns", nargs="*", metavar="NAME", help="names, synsets or wildcards")
    _add_prepare(commands)
    _add_photos(commands)
    _add_kinds(commands)
    return parser


def _settings(args: argparse.Namespace, **more: Any) -> "Settings":
    from data.selection import Settings

    return Settings(
        min_side=args.min_side,
        max_aspect=args.max_aspect,
        crops=tuple(dict.fromkeys(args.crops or args.default_crops)),
        margin=args.margin,
        resolution=args.resolution,
        dedup_distance=None if args.no_dedup else args.dedup_distance,
        seed=args.seed,
        **more,
    )


def _list_breeds(args: argparse.Namespace) -> None:
    for breed in find_breeds(args.patterns) if args.patterns else BREEDS:
        print(f"{breed.synset}  {breed.name:28}  {breed.spanish}")


def _prepare(args: argparse.Namespace, home: Path) -> None:
    from data.archives import download_official, unpack_stanford
    from data.prepare import check_output, prepare

    excluded = set(args.exclude_breeds)
    wanted = dict.fromkeys(args.breeds or BREEDS)
    breeds = tuple(breed for breed in wanted if breed not in excluded)
    if not breeds:
        raise DataError("argument --exclude-breeds: leaves no breed")
    if args.source and not args.source.is_dir():
        raise DataError(f"argument --source: {str(args.source)!r} is no folder")
    output = args.output or home / "data" / "stanford_dogs"
    check_output(output, args.overwrite)  # before a long download
    settings = _settings(
        args, breeds=breeds, per_class=args.per_class, split=args.split, boxes=args.boxes
    )
    source = args.source or download_official(home / "downloads" / "stanford_dogs")
    if not (source / "Images").is_dir() and any(source.glob("*.tar")):
        source = unpack_stanford(source, home / "sources")
    _say(prepare(source, output, settings, args.overwrite), output)


def _photos(args: argparse.Namespace, home: Path) -> None:
    from data.prepare import prepare_photos

    if not args.folder.is_dir():
        raise DataError(f"argument DIR: {str(args.folder)!r} is no folder")
    output = args.output or home / "data" / args.name.replace("/", "_")
    settings = _settings(args)
    report = prepare_photos(
        args.folder, output, args.name, args.class_word, settings, args.overwrite
    )
    _say(report, output)


def _kinds(args: argparse.Namespace, home: Path) -> None:
    from data.classes import photo_class
    from data.kinds import prepare_kinds

    if not args.folder.is_dir():
        raise DataError(f"argument DIR: {str(args.folder)!r} is no folder")
    report = prepare_kinds(
        args.folder,
        output := args.output or home / "data" / args.folder.resolve().name,
        photo_class(args.class_word, args.class_es, args.imagenet),
        _settings(args, per_class=args.per_class),
        args.spanish,
        args.held_out,
        args.overwrite,
    )
    _say(report, output)


def _say(report: dict[str, Any], output: Path) -> None:
    totals = report["totals"]
    print(
        f"{report['rows']} pictures from {totals['kept']} of {totals['found']} photos "
        f"({totals['dropped']} dropped, {totals['missing']} listed but missing) "
        f"in {report['seconds']} s: {output}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; exits with code 2 and one line for what the user can mend."""
    parser = _parser()
    args = parser.parse_args(arguments)
    home = Path(os.environ.get("DOGBOOTH_HOME", "artifacts"))
    try:
        if args.command == "breeds":
            _list_breeds(args)
        elif args.command == "prepare":
            _prepare(args, home)
        elif args.command == "photos":
            _photos(args, home)
        else:
            _kinds(args, home)
    except (DataError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

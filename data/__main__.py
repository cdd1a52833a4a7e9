"""Command line of the data package: `python -m data prepare --source DIR --breeds pug,beagle`."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from data.breeds import BREEDS, Breed, find_breeds
from data.crops import CROPS
from data.errors import DataError

if TYPE_CHECKING:  # the commands import what is slow to import
    from data.selection import Settings

EXAMPLES = """\
examples:
  python -m data breeds '*retriever'
  python -m data prepare --source stanford_dogs --breeds "golden retriever,pug" --crop portrait
  python -m data prepare                        (downloads the official archives first, 800 MB)
  python -m data photos my_photos --name rex --class dog
"""


class Parser(argparse.ArgumentParser):
    """Answers a bad argument with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with code 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def _number(
    kind: type[int] | type[float], low: float, high: float = float("inf")
) -> Callable[[str], float]:
    def parse(text: str) -> float:
        noun = "a whole number" if kind is int else "a number"
        limits = f"at least {low}" if high == float("inf") else f"from {low} to {high}"
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be {noun} {limits}, not {text!r}")
        return value

    return parse


def _breeds(text: str) -> list[Breed]:
    try:
        return find_breeds([name.strip() for name in text.split(",")])
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _word(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError(f"must not be empty, not {text!r}")
    return " ".join(text.split())


def _add_common_options(parser: argparse.ArgumentParser, crops: Sequence[str]) -> None:
    add = parser.add_argument
    add(
        "--crop",
        action="append",
        choices=CROPS,
        dest="crops",
        help=f"kind of crop; may be given several times (default: {' and '.join(crops)})",
    )
    parser.set_defaults(default_crops=tuple(crops))
    add(
        "--margin",
        type=_number(float, 0.1, 10),
        default=1.1,
        metavar="X",
        help="side of the box crop, in longer sides of the box (default: %(default)s)",
    )
    add(
        "--resolution",
        type=_number(int, 8, 4096),
        default=128,
        metavar="PIXELS",
        help="side of the pictures written (default: %(default)s)",
    )
    add(
        "--min-side",
        type=_number(int, 1),
        default=64,
        metavar="PIXELS",
        help="drop a photo whose box (without box: the picture) is smaller (default: %(default)s)",
    )
    add(
        "--max-aspect",
        type=_number(float, 1),
        default=3.0,
        metavar="X",
        help="drop one whose longer side is over X times the shorter (default: %(default)s)",
    )
    duplicates = parser.add_mutually_exclusive_group()
    duplicates.add_argument(
        "--dedup-distance",
        type=_number(int, 0, 64),
        default=3,
        metavar="BITS",
        help="drop a photo whose perceptual hash is this near another's (default: %(default)s)",
    )
    duplicates.add_argument("--no-dedup", action="store_true", help="keep duplicates")
    add("--seed", type=_number(int, 0), default=0, help="of every random choice (default: 0)")
    add("--overwrite", action="store_true", help="replace an output folder that is there already")


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
        type=_breeds,
        action="extend",
        metavar="NAMES",
        help="names in English or Spanish, synsets or wildcards, commas between (default: all)",
    )
    add(
        "--exclude-breeds",
        type=_breeds,
        action="extend",
        default=[],
        metavar="NAMES",
        help="breeds to leave out",
    )
    add("--per-class", type=_number(int, 1), metavar="N", help="most photos of one breed")
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
    _add_common_options(parser, ["box"])


def _add_photos(commands: Any) -> None:
    parser = commands.add_parser("photos", help="turn your own photos of one animal into a dataset")
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder with the photos, 4 to 6 of them")
    add("--name", type=_word, required=True, help="what to call it, best a word of no language")
    add(
        "--class",
        type=_word,
        default="dog",
        dest="class_word",
        metavar="WORD",
        help="what it is (default: %(default)s)",
    )
    add("--output", type=Path, metavar="DIR", help="default: DOGBOOTH_HOME/data/NAME")
    _add_common_options(parser, ["portrait", "whole"])


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
        else:
            _photos(args, home)
    except (DataError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

"""Values and options that commands share."""

import argparse
import re
from collections.abc import Callable, Sequence
from typing import NoReturn

from data.breeds import Breed, find_breeds
from data.crops import CROPS
from data.errors import DataError


class Parser(argparse.ArgumentParser):
    """Answers a bad argument with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with code 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def number(
    kind: type[int] | type[float], low: float, high: float = float("inf")
) -> Callable[[str], float]:
    """A parser of numbers from `low` to `high`."""

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


def breeds_named(text: str) -> list[Breed]:
    """The breeds of names and wildcards, commas between."""
    try:
        return find_breeds([name.strip() for name in text.split(",")])
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def word(text: str) -> str:
    """A word or several, one space between; not nothing."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"must not be empty, not {text!r}")
    return " ".join(text.split())


def pairs(text: str) -> dict[str, str]:
    """KIND=NAME, commas between."""
    found = [[part.strip() for part in pair.split("=")] for pair in text.split(",")]
    if any(len(pair) != 2 or not all(pair) for pair in found):
        raise argparse.ArgumentTypeError(f"must be KIND=NAME, commas between, not {text!r}")
    return dict(found)


def class_range(text: str) -> tuple[int, ...]:
    """FIRST-LAST of ImageNet's classes."""
    found = re.fullmatch(r"(\d+)-(\d+)", text)
    classes = tuple(range(int(found[1]), int(found[2]) + 1)) if found else ()
    if not classes or classes[-1] > 999:
        raise argparse.ArgumentTypeError(f"must be FIRST-LAST, of 0 to 999, not {text!r}")
    return classes


def add_common_options(parser: argparse.ArgumentParser, crops: Sequence[str]) -> None:
    """What to keep and how to cut it; `crops` are those of the command where none is given."""
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
        type=number(float, 0.1, 10),
        default=1.1,
        metavar="X",
        help="side of the box crop, in longer sides of the box (default: %(default)s)",
    )
    add(
        "--resolution",
        type=number(int, 8, 4096),
        default=128,
        metavar="PIXELS",
        help="side of the pictures written (default: %(default)s)",
    )
    add(
        "--min-side",
        type=number(int, 1),
        default=64,
        metavar="PIXELS",
        help="drop a photo whose box (without box: the picture) is smaller (default: %(default)s)",
    )
    add(
        "--max-aspect",
        type=number(float, 1),
        default=3.0,
        metavar="X",
        help="drop one whose longer side is over X times the shorter (default: %(default)s)",
    )
    duplicates = parser.add_mutually_exclusive_group()
    duplicates.add_argument(
        "--dedup-distance",
        type=number(int, 0, 64),
        default=3,
        metavar="BITS",
        help="drop a photo whose perceptual hash is this near another's (default: %(default)s)",
    )
    duplicates.add_argument("--no-dedup", action="store_true", help="keep duplicates")
    add("--seed", type=number(int, 0), default=0, help="of every random choice (default: 0)")
    add("--overwrite", action="store_true", help="replace an output folder that is there already")

"""Turns photos into a `datasets.Dataset` on disk, with a report and a contact sheet."""

import hashlib
import io
import json
import random
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
from datasets.arrow_writer import ArrowWriter
from PIL import Image
from tqdm import tqdm

from data.classes import DOGS, photo_class
from data.crops import Box, bucket, centre_square, cut, square_around
from data.errors import DataError
from data.photos import open_photo
from data.portrait import HeadFinder
from data.report import Report
from data.scenes import scene_of
from data.selection import (
    Candidate,
    Settings,
    breed_subject,
    instance_subject,
    select,
)
from data.sheet import PER_ROW, contact_sheet
from data.stanford import Entry, SourceError, read_index

FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "synset": datasets.Value("string"),
        "breed": datasets.Value("string"),
        "breed_es": datasets.Value("string"),
        "crop": datasets.Value("string"),
        "split": datasets.Value("string"),
        "scene": datasets.Value("string"),
        "caption_en": datasets.Value("string"),
        "caption_es": datasets.Value("string"),
        "source": datasets.Value("string"),
    }
)
PORTRAIT_MARGIN = 1.1
BATCH = 4
"""Photos that go through the network together; on a CPU more is slower (cache)."""
JPEG_QUALITY = 95


class OutputError(DataError):
    """The output folder cannot be used."""


class NothingKept(DataError):
    """No photo passed the filters, or there was none."""


def prepare(
    source: Path, output: Path, settings: Settings, overwrite: bool = False
) -> dict[str, Any]:
    """Stanford Dogs in `source` (folders `Images`, `Annotation`, `lists`) as a dataset in `output`.

    Returns:
        The report, as written to `report.json`.

    Raises:
        SourceError: no Stanford Dogs there.
        NothingKept: no photo left after the filters.
        OutputError: `output` is there already.
    """
    started = time.monotonic()
    check_output(output, overwrite)
    index = read_index(source, settings.breeds)
    report = Report(ignored=index.ignored)
    for breed, missing in index.missing.items():
        report.group(breed.name).missing = missing
    entries = {breed_subject(breed): files for breed, files in index.entries.items()}
    candidates = select(entries, settings, report)
    arguments = asdict(settings) | {
        "source": source.resolve().name,
        "class": "dog",
        "breeds": [breed.name for breed in settings.breeds],
    }
    return write_dataset(candidates, DOGS.imagenet, output, settings, report, arguments, started)


def prepare_photos(
    folder: Path,
    output: Path,
    name: str,
    class_word: str,
    settings: Settings,
    overwrite: bool = False,
) -> dict[str, Any]:
    """A folder of photos of one animal as a dataset with the same columns; `breed` is its name.

    A folder that holds nothing but folders has an animal in each, called as its folder is.
    Returns and raises what `prepare` does. A photo without annotation has its middle square as box.
    """
    started = time.monotonic()
    check_output(output, overwrite)
    if not folder.is_dir():
        raise SourceError(f"{str(folder)!r} is no folder")
    inside = sorted(folder.iterdir())
    several = bool(inside) and all(path.is_dir() for path in inside)
    animals = {path.name: sorted(path.iterdir()) for path in inside} if several else {name: inside}
    entries = {
        instance_subject(animal, class_word): [
            Entry(path, path.relative_to(folder).as_posix(), "", None) for path in photos
        ]
        for animal, photos in animals.items()
    }
    report = Report()
    candidates = select(entries, settings, report)
    classes = photo_class(class_word).imagenet
    arguments = own_arguments(settings) | {"source": folder.resolve().name}
    arguments |= {"name": name, "class": class_word}
    return write_dataset(candidates, classes, output, settings, report, arguments, started)


def own_arguments(settings: Settings) -> dict[str, Any]:
    """What of the settings means something for photos that are not of Stanford Dogs."""
    own = asdict(settings)
    del own["breeds"], own["split"], own["boxes"]
    return own


def check_output(output: Path, overwrite: bool) -> None:
    """Raises OutputError when `output` is a file, or a folder that may not be replaced."""
    if output.exists() and not output.is_dir():
        raise OutputError(f"argument --output: {str(output)!r} is no folder")
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        raise OutputError(
            f"argument --output: {str(output)!r} is there already; --overwrite replaces it"
        )


def _squares(
    images: Sequence[Image.Image],
    candidates: Sequence[Candidate],
    settings: Settings,
    finder: HeadFinder | None,
) -> list[dict[str, Box]]:
    """For each photo, the square of each kind of crop."""
    middles = [centre_square(image.size) for image in images]

    def around_box(margin: float) -> list[Box]:
        return [
            square_around(candidate.box, margin, image.size) if candidate.box else middle
            for image, candidate, middle in zip(images, candidates, middles, strict=True)
        ]

    squares = {"whole": middles, "box": around_box(settings.margin)}
    if finder:
        squares["portrait"] = finder.find(images, around_box(PORTRAIT_MARGIN))
    kinds = [crop for crop in settings.crops if crop != "bucket"]
    return [{crop: squares[crop][i] for crop in kinds} for i in range(len(images))]


def rows(
    candidates: Sequence[Candidate], settings: Settings, finder: HeadFinder | None
) -> Iterator[dict[str, Any]]:
    """One row of `FEATURES` for each photo and kind of crop."""
    progress = tqdm(total=len(candidates), desc="cropping", disable=None)
    for start in range(0, len(candidates), BATCH):
        batch = candidates[start : start + BATCH]
        images = [open_photo(candidate.path).image for candidate in batch]
        squares = _squares(images, batch, settings, finder)
        for candidate, image, by_crop in zip(batch, images, squares, strict=True):
            scene = scene_of(image, candidate.box)
            for crop, box in by_crop.items():
                picture = cut(image, box, settings.resolution)
                yield _row(candidate, crop, picture, scene, settings.seed)
            if "bucket" in settings.crops:
                part, size = bucket(image.size, settings.resolution)
                shaped = image.resize(size, Image.Resampling.LANCZOS, box=(*part,))
                yield _row(candidate, "bucket", shaped, scene, settings.seed)
        progress.update(len(batch))
    progress.close()


def _row(
    candidate: Candidate, crop: str, picture: Image.Image, scene: str, seed: int
) -> dict[str, Any]:
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    texts = candidate.subject.captions(crop)
    generator = random.Random(f"{seed}/{candidate.source}/{crop}")
    return {
        "image": {"bytes": encoded.getvalue(), "path": None},
        "synset": candidate.subject.synset,
        "breed": candidate.subject.name,
        "breed_es": candidate.subject.spanish,
        "crop": crop,
        "split": candidate.split,
        "scene": scene,
        "caption_en": generator.choice(texts["en"]),
        "caption_es": generator.choice(texts["es"]),
        "source": candidate.source,
    }


def write_dataset(
    candidates: Sequence[Candidate],
    classes: Sequence[int],
    output: Path,
    settings: Settings,
    report: Report,
    arguments: dict[str, Any],
    started: float,
) -> dict[str, Any]:
    """Writes dataset, report and contact sheet beside `output`, then moves them there at once."""
    summary = report.summary()
    if not candidates:
        reasons = ", ".join(f"{n} {why}" for why, n in summary["totals"]["reasons"].items())
        raise NothingKept(f"no photo left to prepare ({reasons or 'none found'})")
    finder = HeadFinder(classes) if "portrait" in settings.crops else None
    output.parent.mkdir(parents=True, exist_ok=True)
    building = output.parent / f".{output.name}.{uuid.uuid4().hex[:8]}"
    building.mkdir()
    try:
        fingerprint = hashlib.sha256()
        arrow, finished = building / "rows.arrow", building / "finished"
        with ArrowWriter(features=FEATURES, path=str(arrow), writer_batch_size=256) as writer:
            for row in rows(candidates, settings, finder):
                for key in ("source", "crop", "scene", "caption_en", "caption_es"):
                    fingerprint.update(f"{row[key]}\0".encode())
                fingerprint.update(row["image"]["bytes"])
                writer.write(row)
            writer.finalize()
        dataset = datasets.Dataset.from_file(str(arrow))
        dataset.save_to_disk(finished)
        _draw_sheet(dataset, settings.seed).save(finished / "contact_sheet.png")
        summary = {
            "arguments": arguments,
            "rows": len(dataset),
            "fingerprint": fingerprint.hexdigest(),
            "seconds": round(time.monotonic() - started, 1),
        } | summary
        text = json.dumps(summary, indent=2, ensure_ascii=False)
        (finished / "report.json").write_text(text + "\n", encoding="utf-8")
        _move(finished, output)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return summary


def _move(finished: Path, output: Path) -> None:
    """Renames a finished folder to `output`; what was there is put beside it, to be removed."""
    if output.exists():
        output.rename(finished.with_name("replaced"))
    finished.rename(output)


def _draw_sheet(dataset: datasets.Dataset, seed: int) -> Image.Image:
    """A few rows of each breed, drawn by the seed."""
    places: dict[str, list[int]] = {}
    for i, breed in enumerate(dataset["breed"]):
        places.setdefault(breed, []).append(i)
    generator = random.Random(seed)
    pictures, notes = {}, {}
    for breed, here in places.items():
        chosen = sorted(generator.sample(here, min(PER_ROW, len(here))))
        pictures[breed] = [dataset[i]["image"] for i in chosen]
        notes[breed] = f"{len(here)} pictures"
    return contact_sheet(pictures, notes)

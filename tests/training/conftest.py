"""Prepared datasets of drawn pictures for the trainers."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from PIL import Image, ImageDraw

from data.breeds import find_breeds
from data.classes import photo_class
from data.kinds import prepare_kinds
from data.prepare import prepare, prepare_photos
from data.selection import Settings


@pytest.fixture(autouse=True)
def own_accelerator() -> Iterator[None]:
    """`accelerate` keeps its precision for the life of a process."""
    yield
    AcceleratorState._reset_state(True)


def draw_dog(seed: int, size: int = 96) -> Image.Image:
    """A face of two ears, two eyes and a nose, in colours and at a place of its own."""
    rng = random.Random(seed)
    picture = Image.effect_noise((size, size), 30 + seed % 40).convert("RGB")
    pen = ImageDraw.Draw(picture)
    coat = tuple(rng.randrange(60, 250) for _ in range(3))
    x, y = rng.randrange(20, 40), rng.randrange(20, 40)
    for ear in (x, x + 28):
        pen.ellipse((ear - 4, y - 14, ear + 16, y + 10), fill=coat)
    pen.ellipse((x - 4, y - 4, x + 44, y + 44), fill=coat, outline="black")
    for eye in (x + 10, x + 26):
        pen.ellipse((eye, y + 10, eye + 5, y + 15), fill="black")
    pen.ellipse((x + 14, y + 24, x + 26, y + 32), fill="black")
    return picture


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four pictures of one drawn dog."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(4):
        draw_dog(number).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def rex(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos as a prepared dataset of 36 px: `rex dog`."""
    output = tmp_path_factory.mktemp("data") / "rex"
    settings = Settings(crops=("whole",), resolution=36, min_side=8, dedup_distance=None)
    prepare_photos(photos, output, "rex", "dog", settings)
    return output


@pytest.fixture(scope="session")
def two_breeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn dogs of two breeds in the layout of Stanford Dogs, prepared at 72 px."""
    source = tmp_path_factory.mktemp("stanford")
    breeds = find_breeds(["beagle", "pug"])
    for breed in breeds:
        (source / "Images" / breed.folder).mkdir(parents=True)
        (source / "Annotation" / breed.folder).mkdir(parents=True)
        for number in range(6):
            stem = f"{breed.synset}_{number}"
            picture = draw_dog(number + 100 * len(breed.name))
            picture.save(source / "Images" / breed.folder / f"{stem}.jpg")
            (source / "Annotation" / breed.folder / stem).write_text(
                "<annotation><size><width>96</width><height>96</height></size>"
                "<object><bndbox><xmin>4</xmin><ymin>4</ymin><xmax>90</xmax><ymax>90</ymax>"
                "</bndbox></object></annotation>"
            )
    output = tmp_path_factory.mktemp("data") / "breeds"
    settings = Settings(
        breeds=tuple(breeds), crops=("box",), resolution=72, min_side=8, dedup_distance=None
    )
    prepare(source, output, settings)
    return output


@pytest.fixture(scope="session")
def cats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight drawn cats of each of two breeds and of none, at 36 px, half of them held out."""
    source = tmp_path_factory.mktemp("cats")
    for base, kind in enumerate(("Bengal_", "Siamese_", "cat.")):
        for number in range(8):
            draw_dog(1000 * base + number).save(source / f"{kind}{number}.png")
    output = tmp_path_factory.mktemp("data") / "cats"
    settings = Settings(crops=("whole",), resolution=36, min_side=8, dedup_distance=None)
    spanish = {"Siamese": "siamés"}
    prepare_kinds(source, output, photo_class("cat"), settings, spanish, held_out=0.5)
    return output

"""Drawn photos and small Stanford Dogs folders."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

PUG = "n02110958-pug"
BEAGLE = "n02088364-beagle"
BoxTuple = tuple[int, int, int, int]


def draw_dog(size: tuple[int, int] = (160, 120), seed: int = 0) -> Image.Image:
    """A head with ears, eyes and nose on a patterned ground; other seeds look different."""
    generator = random.Random(seed)
    width, height = size

    def colour() -> tuple[int, int, int]:
        return tuple(generator.randrange(40, 230) for _ in range(3))  # type: ignore[return-value]

    image = Image.new("RGB", size, colour())
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = generator.randrange(width), generator.randrange(height)
        draw.rectangle((x, y, x + width // 4, y + height // 4), colour())
    x, y, r = width / 2, height / 2, min(size) / 3
    fur = colour()
    draw.ellipse((x - r, y - r, x + r, y + r), fur)
    for side in (-1, 1):
        draw.polygon([(x + side * r, y - r), (x, y - r), (x + side * r, y)], colour())
        draw.ellipse((x + side * r / 2 - 4, y - 8, x + side * r / 2 + 4, y), "black")
    draw.ellipse((x - 6, y + 8, x + 6, y + 18), "black")
    return image


def annotation(size: tuple[int, int], boxes: Sequence[BoxTuple]) -> str:
    """The dataset's own XML."""
    objects = "".join(
        f"<object><name>dog</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin>"
        f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for left, top, right, bottom in boxes
    )
    width, height = size
    return (
        f"<annotation><size><width>{width}</width><height>{height}</height></size>"
        f"{objects}</annotation>"
    )


class StanfordFolder:
    """A Stanford Dogs folder to put photos, junk and lists into."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "Images").mkdir(parents=True)

    def put(self, folder: str, name: str, content: bytes) -> Path:
        """A file of any content among the photos."""
        path = self.root / "Images" / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    def annotate(self, folder: str, name: str, xml: str) -> None:
        """An annotation for the photo `name`."""
        path = self.root / "Annotation" / folder / Path(name).stem
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(xml)

    def add(
        self,
        folder: str,
        name: str,
        image: Image.Image | None = None,
        boxes: Sequence[BoxTuple] = ((20, 10, 140, 110),),
        seed: int = 0,
        **save: object,
    ) -> Path:
        """A photo with its annotation."""
        image = image or draw_dog(seed=seed)
        path = self.put(folder, name, b"")
        image.save(path, **save)  # type: ignore[arg-type]
        self.annotate(folder, name, annotation(image.size, boxes))
        return path

    def list(self, split: str, names: Sequence[str]) -> None:
        """An official list, as text."""
        (self.root / "lists").mkdir(exist_ok=True)
        (self.root / "lists" / f"{split}_list.txt").write_text("\n".join(names) + "\n")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine two threads that wait for each other take longer than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def dog() -> Callable[..., Image.Image]:
    """Draws a dog: `dog(size, seed)`."""
    return draw_dog


@pytest.fixture
def xml() -> Callable[..., str]:
    """Writes an annotation: `xml(size, boxes)`."""
    return annotation


@pytest.fixture
def stanford(tmp_path: Path) -> StanfordFolder:
    """An empty Stanford Dogs folder."""
    return StanfordFolder(tmp_path / "dogs")


@pytest.fixture
def two_breeds(stanford: StanfordFolder) -> StanfordFolder:
    """Four pugs and three beagles, with lists."""
    for i in range(4):
        stanford.add(PUG, f"n02110958_{i}.jpg", seed=i)
    for i in range(3):
        stanford.add(BEAGLE, f"n02088364_{i}.jpg", seed=10 + i)
    stanford.list("train", [f"{PUG}/n02110958_{i}.jpg" for i in (0, 1)])
    stanford.list("test", [f"{PUG}/n02110958_{i}.jpg" for i in (2, 99)])
    return stanford

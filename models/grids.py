"""Grids of pictures over one or two settings, labelled like the WebUI's XYZ plot."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from models.catalog import Catalog
from models.errors import InvalidRequest
from models.requests import Engine, GeneratedImage, GenerationRequest
from models.schedulers import SCHEDULERS

MAX_CELLS = 100
LABELS = {
    "prompt": "{}",
    "model": "Model: {}",
    "steps": "Steps: {}",
    "guidance_scale": "CFG scale: {:g}",
    "scheduler": "Sampler: {}",
    "seed": "Seed: {}",
}
"""What may be an axis, and how its values are written beside the grid."""
KINDS = {"steps": int, "seed": int, "guidance_scale": float}
GAP, LINE, FONT_SIZE = 6, 17, 14
ROW_LABEL_WIDTH = 130

Value = str | int | float


@dataclass(frozen=True)
class Axis:
    """One setting and the values that it takes, in order."""

    name: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if self.name not in LABELS:
            raise InvalidRequest(f"axis {self.name[:80]!r}: one of {', '.join(LABELS)}")
        if not self.values:
            raise InvalidRequest(f"axis {self.name}: has no values")

    def labels(self) -> list[str]:
        """Its values as they stand beside the grid."""
        if self.name == "scheduler":
            known = {name: spec.label for name, spec in SCHEDULERS.items()}
            return [LABELS["scheduler"].format(known.get(str(v), v)) for v in self.values]
        return [LABELS[self.name].format(value) for value in self.values]


def parse_axis(text: str) -> Axis:
    """The axis of `steps=5,10,25`; values with commas stand in double quotes.

    Raises InvalidRequest.
    """
    name, separator, listed = text.partition("=")
    if not separator:
        raise InvalidRequest(f"axis {text[:80]!r}: must be NAME=VALUE,VALUE,...")
    texts = [v.strip() for v in next(csv.reader([listed], skipinitialspace=True), []) if v.strip()]
    kind = KINDS.get(name)
    if kind is None:
        return Axis(name, tuple(texts))
    try:
        return Axis(name, tuple(kind(value) for value in texts))
    except ValueError as error:
        raise InvalidRequest(f"axis {name}: {error}") from error


def cells(request: GenerationRequest, x: Axis, y: Axis | None) -> list[list[GenerationRequest]]:
    """`request` with each value of `x` in a row, one such row for each value of `y`.

    Raises InvalidRequest where the axes do not go together.
    """
    check_axes(x, y)
    rows = [request] if y is None else [_with(request, y.name, value) for value in y.values]
    return [[_with(row, x.name, value) for value in x.values] for row in rows]


def check_axes(x: Axis, y: Axis | None) -> None:
    """Raise InvalidRequest where the axes are the same or the cells too many."""
    if y is not None and x.name == y.name:
        raise InvalidRequest(f"axes: both are {x.name}")
    number = len(x.values) * (len(y.values) if y else 1)
    if number > MAX_CELLS:
        raise InvalidRequest(f"axes: {number} cells, must be at most {MAX_CELLS}")


def _with(request: GenerationRequest, name: str, value: Value) -> GenerationRequest:
    changed: dict[str, Any] = {"seeds": (value,)} if name == "seed" else {name: value}
    return replace(request, **changed)


def draw(
    engine: Engine, rows: Sequence[Sequence[GenerationRequest]], one_by_one: bool = False
) -> list[list[GeneratedImage]]:
    """The picture of each cell; in one batch, or `one_by_one`, so that seconds are a cell's own.

    Raises what `Engine.submit` raises before anything is drawn, or GenerationFailed.
    """
    if one_by_one:
        return [[engine.submit(cell).result().images[0] for cell in row] for row in rows]
    handles = []
    try:
        for row in rows:
            handles.append([engine.submit(cell) for cell in row])
        return [[handle.result().images[0] for handle in row] for row in handles]
    except BaseException:
        for handle in (handle for row in handles for handle in row):
            handle.cancel()
        raise


def draw_grid(
    catalog: Catalog,
    request: GenerationRequest,
    x: Axis,
    y: Axis | None = None,
    one_by_one: bool = False,
) -> tuple[list[list[GeneratedImage]], Image.Image]:
    """The pictures of a grid and the grid, through an engine of its own."""
    from models.engine import LocalEngine

    rows = cells(request, x, y)
    models = sorted({cell.model for row in rows for cell in row})
    for model in models:
        catalog.get(model)  # the engine would log a missing one, beside the error
    engine = LocalEngine(catalog, queue_limit=MAX_CELLS)
    try:
        for model in models:
            engine.warm_up(model).result()  # loading is no cell's cost
        drawn = draw(engine, rows, one_by_one)
    finally:
        engine.close()
    notes = [[f"{cell.seconds:.2f} s" for cell in row] for row in drawn]
    pictures = [[cell.image for cell in row] for row in drawn]
    return drawn, labelled(pictures, x.labels(), y.labels() if y else None, notes)


def labelled(
    rows: Sequence[Sequence[Image.Image | None]],
    columns: Sequence[str],
    row_labels: Sequence[str] | None = None,
    notes: Sequence[Sequence[str]] | None = None,
) -> Image.Image:
    """One picture: `columns` above, `row_labels` at the left, a note below each cell.

    A cell that is None stays empty.
    """
    sizes = [cell.size for row in rows for cell in row if cell is not None]
    width, height = (max((size[side] for size in sizes), default=1) for side in (0, 1))
    left = ROW_LABEL_WIDTH if row_labels else 0
    heads = [_wrapped(text, width) for text in columns]
    top = GAP + LINE * max(map(len, heads))
    line = height + GAP + (LINE if notes else 0)
    size = (left + GAP + len(columns) * (width + GAP), top + len(rows) * line)
    canvas = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(FONT_SIZE)
    for column, lines in enumerate(heads):
        middle = left + GAP + column * (width + GAP) + width / 2
        pen.text(
            (middle, 2), "\n".join(lines), fill="black", font=font, anchor="ma", align="center"
        )
    for number, row in enumerate(rows):
        y = top + number * line
        if row_labels:
            text = "\n".join(_wrapped(row_labels[number], left - GAP))
            pen.text((GAP, y + height / 2), text, fill="black", font=font, anchor="lm")
        for column, cell in enumerate(row):
            x = left + GAP + column * (width + GAP)
            if cell is not None:
                canvas.paste(cell, (x, y))
            if notes:
                place = (x + width / 2, y + height + 1)
                pen.text(place, notes[number][column], fill="gray", font=font, anchor="ma")
    return canvas


def _wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` pixels, as far as its words allow."""
    font = ImageFont.load_default(FONT_SIZE)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines

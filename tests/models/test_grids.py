from pathlib import Path

import pytest
from PIL import Image

from models.catalog import Catalog
from models.errors import InvalidRequest
from models.grids import Axis, cells, draw_grid, labelled, parse_axis
from models.requests import GenerationRequest

REQUEST = GenerationRequest("a dog", (7,), "tiny", steps=2)


def test_an_axis_is_a_name_and_its_values_in_order() -> None:
    assert parse_axis("steps=10,5") == Axis("steps", (10, 5))
    assert parse_axis("guidance_scale=1,7.5") == Axis("guidance_scale", (1.0, 7.5))
    assert parse_axis('prompt="a pug, asleep", a beagle').values == ("a pug, asleep", "a beagle")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("steps", "must be NAME=VALUE"),
        ("width=64,128", "axis 'width': one of prompt, model, steps"),
        ("steps=", "axis steps: has no values"),
        ("steps=5,many", "axis steps: .*'many'"),
    ],
)
def test_a_bad_axis_is_told_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        parse_axis(text)


def test_each_cell_has_the_values_of_its_row_and_column() -> None:
    rows = cells(REQUEST, Axis("seed", (1, 2)), Axis("model", ("tiny", "rex", "tiny")))
    assert [[(cell.seeds, cell.model) for cell in row] for row in rows] == [
        [((1,), model), ((2,), model)] for model in ("tiny", "rex", "tiny")
    ]
    assert rows[0][0].steps == 2


def test_two_axes_of_one_name_and_too_many_cells_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="axes: both are steps"):
        cells(REQUEST, Axis("steps", (1,)), Axis("steps", (2,)))
    many = Axis("seed", tuple(range(51)))
    with pytest.raises(InvalidRequest, match="axes: 102 cells, must be at most 100"):
        cells(REQUEST, many, Axis("steps", (1, 2)))


def test_a_grid_shows_the_engine_s_picture_of_every_cell(catalog: Catalog) -> None:
    drawn, grid = draw_grid(catalog, REQUEST, Axis("steps", (1, 3)), Axis("model", ("tiny", "rex")))
    different = {cell.image.tobytes() for row in drawn for cell in row}
    assert len(different) == 4
    assert all(cell.seconds > 0 for row in drawn for cell in row)
    positions = ((x, y) for y in range(grid.height - 31) for x in range(grid.width - 31))
    corners = {grid.crop((x, y, x + 32, y + 32)).tobytes() for x, y in positions}
    assert different <= corners


def test_a_cell_that_was_not_drawn_stays_empty() -> None:
    red = Image.new("RGB", (32, 32), "red")
    grid = labelled([[red, None]], ["one", "two"])
    assert grid.getpixel((20, 40)) == (255, 0, 0)
    assert grid.getpixel((60, 40)) == (255, 255, 255)


def test_long_labels_are_wrapped_and_make_room(tmp_path: Path) -> None:
    red = Image.new("RGB", (64, 64), "red")
    short = labelled([[red]], ["a dog"])
    long = labelled([[red]], ["a photo of a very old golden retriever on the beach"])
    assert long.width == short.width
    assert long.height > short.height

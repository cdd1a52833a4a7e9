"""Every notebook runs from top to bottom at reduced settings; those that are stored are small."""

import base64
import io
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from scripts.notebooks import FOLDER, MOST_BYTES, ROOT, execute, pictures_of, quick, shrunk

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def notebook_of(*sources: str, reduced: dict[str, Any]) -> NotebookNode:
    """One whose first cell holds the parameters."""
    cells = [new_code_cell(source) for source in sources]
    cells[0].metadata.tags = ["parameters"]
    return new_notebook(cells=cells, metadata={"dogbooth": {"quick": reduced}})


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_at_reduced_settings_and_leaves_the_tree_alone(
    file: Path, tmp_path: Path
) -> None:
    notebook = nbformat.read(file, as_version=4)
    needs = notebook.metadata.dogbooth.get("needs")
    if needs and not (ROOT / needs).is_dir():
        pytest.skip(f"reads {needs}, which is absent")
    before = {path.name for folder in (ROOT, FOLDER) for path in folder.iterdir()}
    execute(quick(notebook), tmp_path)
    assert {path.name for folder in (ROOT, FOLDER) for path in folder.iterdir()} == before


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_stored_notebook_is_executed_in_order_and_small(file: Path) -> None:
    assert file.stat().st_size <= MOST_BYTES
    notebook = nbformat.read(file, as_version=4)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_reduced_parameters_take_the_place_of_the_full_ones(tmp_path: Path) -> None:
    notebook = notebook_of("steps = 25\nseed = 7", "print(steps, seed)", reduced={"steps": 2})
    assert execute(quick(notebook), tmp_path).cells[-1].outputs[0].text == "2 7\n"


def test_a_reduced_parameter_that_the_notebook_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="step: not in the cell"):
        quick(notebook_of("steps = 25", reduced={"step": 2}))


def test_a_notebook_without_a_parameters_cell_is_refused() -> None:
    notebook = notebook_of("steps = 25", reduced={"steps": 2})
    notebook.cells[0].metadata.tags = []
    with pytest.raises(ValueError, match="0 cells"):
        quick(notebook)


def test_what_a_cell_raises_is_raised(tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match="no dog"):
        execute(notebook_of("raise ValueError('no dog')", reduced={}), tmp_path)


def test_stored_outputs_have_small_pictures_and_no_logs() -> None:
    noise = Image.effect_noise((128, 128), 90).convert("RGB")
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    png = base64.b64encode(buffer.getvalue()).decode()
    notebook = notebook_of("draw()", reduced={})
    notebook.cells[0].outputs = [
        new_output("stream", name="stderr", text="a warning"),
        new_output("display_data", {"image/png": png}),
    ]
    [output] = shrunk(notebook).cells[0].outputs
    [(media, data)] = output.data.items()
    assert media == "image/jpeg"
    assert len(data) < len(png) / 2
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (128, 128)


def test_the_pictures_of_a_cell_tagged_photos_are_not_stored() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    png = base64.b64encode(buffer.getvalue()).decode()
    notebook = notebook_of("show(photo)", reduced={})
    notebook.cells[0].metadata.tags = ["photos"]
    notebook.cells[0].outputs = [
        new_output("stream", name="stdout", text="90 photos"),
        new_output("display_data", {"image/png": png}),
    ]
    assert [output.output_type for output in shrunk(notebook).cells[0].outputs] == ["stream"]


def test_a_cell_may_give_its_last_picture_to_a_file() -> None:
    notebook = notebook_of("show(dog)", "show(cat)", reduced={})
    notebook.cells[1].metadata.dogbooth = {"picture": "docs/labs/cats.jpg"}
    for cell, widths in zip(notebook.cells, ((4,), (8, 12)), strict=True):
        for width in widths:
            buffer = io.BytesIO()
            Image.new("RGB", (width, 8)).save(buffer, "PNG")
            png = base64.b64encode(buffer.getvalue()).decode()
            cell.outputs.append(new_output("display_data", {"image/png": png}))
    [(path, content)] = pictures_of(notebook).items()
    assert path == "docs/labs/cats.jpg"
    picture = Image.open(io.BytesIO(content))
    assert (picture.format, picture.size) == ("JPEG", (12, 8))

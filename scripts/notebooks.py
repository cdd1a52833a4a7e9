"""Executes the notebooks at their full settings and stores them small: `make notebooks`.

`python -m scripts.notebooks notebooks/02_*.ipynb` does it for some of them.

A notebook has one cell tagged `parameters`; its own metadata hold `dogbooth.quick`, the values of
some of these that the tests run it with, and `dogbooth.needs`, the folder that it reads, if any.
The kernel works in the repository's root, its models and runs are in a folder that is gone
afterwards (DOGBOOTH_HOME), so nothing in the tree is written. Pictures of cells that are tagged
`photos` are not stored. Where a cell's metadata name a file as `dogbooth.picture`, the last picture
that it shows is also written there, for the README.
"""

import ast
import base64
import io
import os
import sys
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
MOST_BYTES = 1_000_000
"""Of one stored notebook."""
SECONDS_PER_CELL = 1800
COLOURS = 64
QUALITY = 82


def main(names: list[str]) -> int:
    """Execute each notebook of `names`, or all, and store it in its place."""
    for file in [Path(name) for name in names] or sorted(FOLDER.glob("*.ipynb")):
        print(file.name, flush=True)
        with TemporaryDirectory() as home:
            executed = execute(nbformat.read(file, as_version=4), Path(home))
        text = nbformat.writes(shrunk(executed))
        if len(text.encode()) > MOST_BYTES:
            print(f"error: {file.name}: {len(text.encode())} bytes executed", file=sys.stderr)
            return 1
        file.write_text(text + "\n", encoding="utf-8")
        for path, picture in pictures_of(executed).items():
            (ROOT / path).write_bytes(picture)
    return 0


def execute(notebook: NotebookNode, home: Path) -> NotebookNode:
    """A copy of `notebook` with the outputs of a fresh kernel; what a cell raises is raised."""
    executed = deepcopy(notebook)
    settings = {
        "DOGBOOTH_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
    }
    client = NotebookClient(
        executed,
        timeout=SECONDS_PER_CELL,
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT)}},
        record_timing=False,
    )
    client.execute(env=os.environ | settings)
    return executed


def quick(notebook: NotebookNode) -> NotebookNode:
    """A copy with the reduced parameters in a cell behind the tagged one, as papermill does it.

    Raises ValueError where no cell is tagged, or the tagged one lacks a parameter.
    """
    reduced: Mapping[str, Any] = notebook.metadata.dogbooth.quick
    changed = deepcopy(notebook)
    tagged = [c for c in changed.cells if "parameters" in c.metadata.get("tags", ())]
    if len(tagged) != 1:
        raise ValueError(f"{len(tagged)} cells are tagged `parameters`: must be 1")
    unknown = reduced.keys() - assigned(tagged[0].source)
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))}: not in the cell tagged `parameters`")
    source = "\n".join(f"{name} = {value!r}" for name, value in reduced.items())
    injected = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]})
    changed.cells.insert(changed.cells.index(tagged[0]) + 1, injected)
    return changed


def assigned(source: str) -> set[str]:
    """The names that `source` assigns to."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
    return {node.id for node in nodes if isinstance(node.ctx, ast.Store)}


def shrunk(notebook: NotebookNode) -> NotebookNode:
    """A copy without logs, with each picture in the smallest form that shows it well.

    Cells tagged `photos` show real ones, not ours to publish: their pictures are left out.
    """
    small = deepcopy(notebook)
    small.metadata.pop("widgets", None)
    for cell in small.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
        if "photos" in cell.metadata.get("tags", ()):
            cell.outputs = [out for out in cell.outputs if "image/png" not in out.get("data", {})]
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                data.pop("image/jpeg", None)  # of the same picture: Pillow's own forms are both
                picture = Image.open(io.BytesIO(base64.b64decode(data.pop("image/png"))))
                media, content = smallest(picture)
                data[media] = base64.b64encode(content).decode()
    return small


def pictures_of(notebook: NotebookNode) -> dict[str, bytes]:
    """JPEGs of an executed notebook by the files that its cells name for them."""
    found = {}
    for cell in notebook.cells:
        if path := cell.metadata.get("dogbooth", {}).get("picture"):
            *_, png = (
                o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})
            )
            picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
            found[path] = buffer.getvalue()
    return found


def smallest(picture: Image.Image) -> tuple[str, bytes]:
    """Media type and bytes: a PNG of few colours for charts, a JPEG for photos."""
    flat = Image.new("RGB", picture.size, "white")
    flat.paste(picture, mask=picture.convert("RGBA").getchannel("A"))
    png, jpeg = io.BytesIO(), io.BytesIO()
    flat.quantize(COLOURS).save(png, "PNG", optimize=True)
    flat.save(jpeg, "JPEG", quality=QUALITY, optimize=True)
    forms = {"image/png": png.getvalue(), "image/jpeg": jpeg.getvalue()}
    return min(forms.items(), key=lambda form: len(form[1]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

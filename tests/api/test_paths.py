"""Whatever is broken on the disk, no answer tells where the disk's folders lie."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from models.catalog import Catalog
from models.engine import LocalEngine
from tests.api.conftest import make_settings

ABSOLUTE = re.compile(r"(?<![\w.:/])/(tmp|home|root|usr|var|work|opt|private)/")


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def say_nonsense(path: Path) -> None:
    path.write_bytes(b'{"_class_name": ["nonsense"]}')


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def lead_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "gone")


@pytest.mark.parametrize("harm", [Path.unlink, halve, say_nonsense, become_folder, lead_nowhere])
def test_no_answer_about_a_broken_model_holds_a_path(
    catalog: Catalog, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    base, adapter = catalog.get("tiny").folder, catalog.get("rex").folder
    files = [path for folder in (base, adapter) for path in folder.rglob("*") if path.is_file()]
    said = set()
    for path in files:
        before = path.read_bytes()
        harm(path)
        engine = LocalEngine(catalog, "cpu", "fp32", threads=1)
        with TestClient(
            create_app(make_settings(tmp_path), engine), raise_server_exceptions=False
        ) as client:
            for model in ("tiny", "rex"):
                body = {"prompt": "a dog", "model": model, "steps": 1}
                for answer in (
                    client.post("/generate", json=body),
                    client.get(f"/models/{model}"),
                    client.get("/models"),
                ):
                    assert str(tmp_path) not in answer.text, path.name
                    assert ABSOLUTE.search(answer.text) is None, answer.text
                    said.add(answer.status_code)
        engine.close()
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(before)
    assert {200, 500} <= said

"""Writes docs/settings.md from the settings class: `python -m api settings > docs/settings.md`."""

import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ByteSize
from pydantic.fields import FieldInfo

from api.settings import Settings

HEAD = """# Settings

Each is an environment variable. Made by `python -m api settings > docs/settings.md`.

| variable | values | default | meaning |
|---|---|---|---|
"""
KINDS = {
    bool: "`true`, `false`",
    int: "number",
    float: "number",
    str: "text",
    Path: "path",
    ByteSize: "size",
}


def settings_table() -> str:
    """A Markdown page with every setting."""
    return HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: FieldInfo) -> str:
    default = "" if field.default in (None, ()) else f"`{field.default}`"
    meaning = " ".join((field.description or "").split())
    kind = f"{_kind(field.annotation)}{_bounds(field)}"
    return f"| `DOGBOOTH_{name.upper()}` | {kind} | {default} | {meaning} |\n"


def _kind(annotation: Any) -> str:
    if annotation in KINDS:
        return KINDS[annotation]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"{_kind(get_args(annotation)[0])}, with commas"
    assert get_origin(annotation) in (Union, types.UnionType), annotation
    return next(_kind(part) for part in get_args(annotation) if part is not type(None))


def _bounds(field: FieldInfo) -> str:
    words = {"gt": "above", "ge": "from", "le": "to"}
    said = [
        f"{words[name]} {getattr(constraint, name):g}"
        for constraint in field.metadata
        for name in words
        if getattr(constraint, name, None) is not None
    ]
    return f" {' '.join(said)}" if said else ""

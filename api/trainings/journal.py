"""What happened to a training, one JSON object a line: the run writes it, the service as well.

The file is the one truth of a training; its row in the database says how many of the lines were
read and what they add up to. Only one writes at a time: the service while no process runs.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple


class Line(NamedTuple):
    """One thing that happened."""

    id: int
    """Its place in the file, from 0."""
    event: str
    fields: dict[str, Any]


class Journal:
    """The report of one training's runs. It blocks: for threads."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, event: str, **fields: Any) -> None:
        """Add a line; what a killed run left of its last one is closed first."""
        line = json.dumps({"event": event, **fields}) + "\n"
        if self._path.exists() and (written := self._path.read_bytes()) and written[-1:] != b"\n":
            line = "\n" + line
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)

    def read(self, start: int = 0) -> list[Line]:
        """The whole lines from number `start` on; a line that cannot be read is `unreadable`."""
        try:
            written = self._path.read_bytes()
        except FileNotFoundError:
            return []
        whole = written.split(b"\n")[:-1]
        return [_line(number, text) for number, text in enumerate(whole) if number >= start]


def _line(number: int, text: bytes) -> Line:
    try:
        fields = json.loads(text)
        return Line(number, str(fields.pop("event")), fields)
    except (ValueError, KeyError, AttributeError):
        return Line(number, "unreadable", {})


def deaths_without_progress(lines: list[Line]) -> int:
    """How often in a row a run has died and the next got no further before it died as well."""
    best, deaths = -1, 0
    for line in lines:
        if line.event == "running" and line.fields["step"] > best:
            best, deaths = line.fields["step"], 0
        elif line.event in ("queued", "resumed"):
            deaths = deaths if line.event == "queued" else 0
        elif line.event == "died":
            deaths += 1
    return deaths

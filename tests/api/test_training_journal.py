"""The journal of a training: whole lines only, and what they add up to."""

from pathlib import Path

from api.database.tables import TrainingRow
from api.trainings.journal import Journal, deaths_without_progress
from api.trainings.store import apply


def test_a_line_that_a_killed_run_left_half_written_is_closed_and_keeps_its_number(
    tmp_path: Path,
) -> None:
    path = tmp_path / "report.jsonl"
    journal = Journal(path)
    assert journal.read() == []
    journal.append("queued")
    with path.open("a") as file:
        file.write('{"event": "step", "st')
    assert [line.event for line in journal.read()] == ["queued"]
    journal.append("died", how="signal 9 ended it")
    assert [(line.id, line.event) for line in journal.read()] == [
        (0, "queued"),
        (1, "unreadable"),
        (2, "died"),
    ]
    assert journal.read(2)[0].fields == {"how": "signal 9 ended it"}


def test_deaths_count_up_to_progress_or_a_resumption(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "report.jsonl")

    def deaths_after(*events: str) -> int:
        for event in events:
            step = {"step": int(event), "steps": 9} if event.isdigit() else {}
            journal.append("running" if step else event, **step)
        return deaths_without_progress(journal.read())

    assert deaths_after("queued", "died", "queued", "0", "died") == 1
    assert deaths_after("queued", "0", "died", "queued", "0", "died") == 3
    assert deaths_after("queued", "4") == 0
    assert deaths_after("died", "queued", "4", "died") == 2
    assert deaths_after("failed", "resumed", "4", "died") == 1


def test_what_a_run_says_becomes_its_state_without_any_path(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "report.jsonl")
    row = TrainingRow(state="queued", cancel_requested=True)
    journal.append("step", step=3, steps=9, loss=0.5, seconds_left=1.5, memory_bytes=7)
    journal.append("failed", code="invalid_setting", message=f"no {tmp_path}/data/x in {tmp_path}")
    for line in journal.read():
        apply(row, line, tmp_path)
    assert (row.state, row.step, row.steps) == ("failed", 3, 9)
    assert row.report == {"loss": 0.5, "memory_bytes": 7}
    assert (row.error_code, row.error_message) == (
        "invalid_setting",
        "no data/x in the home folder",
    )
    journal.append("resumed")
    apply(row, journal.read(2)[0], tmp_path)
    assert (row.state, row.error_code, row.ended, row.cancel_requested) == (
        "queued",
        None,
        None,
        False,
    )

from pathlib import Path

import pytest
from pydantic import ValidationError

from api.settings import Settings


def test_sizes_are_written_with_their_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOGBOOTH_MEMORY_BUDGET", "4GB")
    monkeypatch.setenv("DOGBOOTH_PREVIEW_DECODER", "taesd")
    monkeypatch.setenv("DOGBOOTH_MAX_BATCH", "8")
    monkeypatch.setenv("DOGBOOTH_GENERATIONS_KEPT", "5")
    settings = Settings()
    assert settings.memory_budget == 4_000_000_000
    assert settings.preview_decoder == Path("taesd")
    assert (settings.max_batch, settings.generations_kept) == (8, 5)


def test_what_is_not_set_is_left_to_the_engine() -> None:
    settings = Settings()
    assert (settings.memory_budget, settings.preview_decoder) == (None, None)
    assert (settings.queue_limit, settings.max_batch, settings.generations_kept) == (64, 32, 256)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory_budget", "0"),
        ("memory_budget", "much"),
        ("max_batch", "0"),
        ("generations_kept", "0"),
        ("request_timeout", "0"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"DOGBOOTH_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        Settings()

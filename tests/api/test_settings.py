from pathlib import Path

import pytest
from pydantic import ValidationError

from api.settings import Settings
from api.settings_table import settings_table


def test_sizes_are_written_with_their_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOGBOOTH_MEMORY_BUDGET", "4GB")
    monkeypatch.setenv("DOGBOOTH_PREVIEW_DECODER", "taesd")
    monkeypatch.setenv("DOGBOOTH_MAX_BATCH", "8")
    monkeypatch.setenv("DOGBOOTH_KEEP_BYTES", "10 MB")
    settings = Settings()
    assert settings.memory_budget == 4_000_000_000
    assert settings.preview_decoder == Path("taesd")
    assert (settings.max_batch, settings.keep_bytes) == (8, 10_000_000)


def test_what_is_not_set_is_left_to_the_engine() -> None:
    settings = Settings()
    assert (settings.memory_budget, settings.preview_decoder) == (None, None)
    assert (settings.queue_limit, settings.max_batch, settings.keep_days) == (64, 32, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory_budget", "0"),
        ("memory_budget", "much"),
        ("max_batch", "0"),
        ("keep_days", "0"),
        ("allow_anonymous", "everyone"),
        ("requests_per_minute", "0"),
        ("request_timeout", "0"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"DOGBOOTH_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        Settings()


def test_origins_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOGBOOTH_CORS_ORIGINS", "https://a.example, https://b.example")
    assert Settings().cors_origins == ("https://a.example", "https://b.example")


def test_the_documented_table_is_the_one_of_the_class() -> None:
    """`python -m api settings > docs/settings.md` after a change of the settings."""
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text() == settings_table()


def test_every_setting_is_explained() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_a_password_in_the_database_url_is_not_shown() -> None:
    assert "secret" not in repr(Settings(database_url="postgresql://dog:secret@host/dogs"))

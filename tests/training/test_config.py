from dataclasses import dataclass, field
from pathlib import Path

import pytest

from training.config import ConfigError, build, plain, read_toml


@dataclass(frozen=True)
class Inner:
    rate: float = 1.0
    sizes: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Outer:
    name: str
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)
    folder: Path = Path("somewhere")

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 0:
            raise ValueError(f"limit: {self.limit} is below 0")


def test_nested_tables_become_nested_dataclasses() -> None:
    made = build(Outer, {"name": "a", "inner": {"rate": 2, "sizes": [3, 4]}})
    assert made == Outer("a", inner=Inner(2.0, (3, 4)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "a", "inner": {"rte": 1}}, "inner.rte: no such setting; did you mean inner.rate"),
        ({"name": 3}, "name: 3 is not of type str"),
        ({"name": "a", "limit": True}, "limit: True is not of type int"),
        ({"name": "a", "limit": -1}, "limit: -1 is below 0"),
        ({"name": "a", "inner": 3}, "inner: 3 is not a table"),
        ({"name": "a", "inner": {"sizes": 5}}, "inner.sizes: 5 is not a list"),
        ({"name": "a", "inner": {"sizes": [1, "x"]}}, r"inner.sizes\[1\]: 'x' is not of type int"),
        ({}, "name"),
    ],
)
def test_a_bad_setting_is_named_with_its_value(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Outer, values)


def test_broken_toml_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("name = ")
    with pytest.raises(ConfigError, match=r"run\.toml"):
        read_toml(tmp_path / "run.toml")
    with pytest.raises(ConfigError, match="no such file"):
        read_toml(tmp_path / "none.toml")


def test_paths_are_recorded_without_their_folders() -> None:
    record = plain(Outer("a", folder=Path("/very/private/photos")))
    assert record["folder"] == "photos"
    assert record["inner"] == {"rate": 1.0, "sizes": [1]}

"""Settings from TOML files and command lines, as checked dataclasses."""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class ConfigError(ValueError):
    """A setting that cannot be used; names the key and the value."""

    code = "invalid_setting"


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; a missing or broken one is a ConfigError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"config {str(path)!r}: no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"config {str(path)!r}: {error}") from None


def build(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Make the dataclass `kind` of `values`; nested tables become nested dataclasses.

    Raises ConfigError for an unknown key (naming the nearest), a value of another type, or one
    that the dataclass itself refuses.
    """
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    made: dict[str, Any] = {}
    for key, value in values.items():
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"; did you mean {where}{near[0]}?" if near else f"; known: {', '.join(names)}"
            raise ConfigError(f"{where}{key}: no such setting{hint}")
        made[key] = _convert(hints[key], value, f"{where}{key}")
    try:
        return kind(**made)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        hint = next(a for a in arguments if a is not type(None))
        return _convert(hint, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: {value!r} is not one of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: {value!r} is not a list")
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: {value!r} is not a table")
        return build(typing.cast(type[Any], hint), value, f"{where}.")
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where}: {value!r} is not of type {hint.__name__}")
    return value


def check_least(settings: Any, least: Mapping[str, float]) -> None:
    """Raise ConfigError for a field of `settings` that is below its bound in `least`."""
    for key, low in least.items():
        if getattr(settings, key) < low:
            raise ConfigError(f"{key}: {getattr(settings, key)} is below {low}")


def check_above_0(settings: Any, *keys: str) -> None:
    """Raise ConfigError for one of these fields of `settings` that is set and not above 0."""
    for key in keys:
        value = getattr(settings, key)
        if value is not None and value <= 0:
            raise ConfigError(f"{key}: {value} is not above 0")


def check_share(settings: Any, key: str) -> None:
    """Raise ConfigError where this field of `settings` is set and not between 0 and 1."""
    value = getattr(settings, key)
    if value is not None and not 0 < value < 1:
        raise ConfigError(f"{key}: {value} is not between 0 and 1")


def plain(settings: Any) -> dict[str, Any]:
    """A dataclass as JSON-ready data; paths keep their last part only."""

    def simple(value: Any) -> Any:
        if isinstance(value, Path):
            return value.name
        if isinstance(value, Mapping):
            return {key: simple(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [simple(item) for item in value]
        return value

    result: dict[str, Any] = simple(dataclasses.asdict(settings))
    return result

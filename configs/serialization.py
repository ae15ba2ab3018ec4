"""Run configs as JSON and back: typed both ways, so that a file with a mistake says where it is.

A config is a tree of frozen dataclasses over numbers, text, booleans, ``None``, paths, tuples, string-keyed
dicts, ``Literal`` and enum choices. Where a field may hold one of several dataclasses, the JSON object names
the one it holds under ``"type"``. Numbers are finite, as JSON has no others; ``~`` at the start of a path is the home
folder, in a file as on the command line.
"""

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

T = TypeVar("T")
TYPE_TAG = "type"


def to_json(value: Any) -> Any:
    """JSON-ready form of a config or of any value inside one; :func:`from_json` is its inverse.

    Every dataclass is tagged with its name, so that unions can be read back. ``TypeError`` for a value
    that no config may hold, ``ValueError`` for a number that is not finite.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        body = {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {TYPE_TAG: type(value).__name__, **body}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a config cannot hold {value}: numbers must be finite")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a config cannot hold a {type(value).__name__}: {value!r}")


def from_json(expected: type[T], data: Any, where: str = "config") -> T:
    """Build a value of type ``expected`` from ``data``; ``ValueError`` names the place, the expected and the given."""
    return _read(expected, data, where)


def leaves(config: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every value inside a config that is not a dataclass, tuple or dict, with its dotted place (``train.device``)."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        inside = [(field.name, getattr(config, field.name)) for field in dataclasses.fields(config)]
    elif isinstance(config, Mapping):
        inside = list(config.items())
    elif isinstance(config, tuple | list):
        inside = list(enumerate(config))
    else:
        yield where, config
        return
    for name, value in inside:
        yield from leaves(value, f"{where}.{name}" if where else str(name))


def at_home(value: T) -> T:
    """``value`` with every path inside it that starts with ``~`` led to the home folder.

    ``ValueError`` for the home of a user whom the system does not know.
    """
    if isinstance(value, Path):
        try:
            return value.expanduser()
        except RuntimeError as error:
            raise ValueError(f"the system knows no home folder for {value}") from error
    if isinstance(value, tuple):
        return type(value)(at_home(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        before = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        after = {name: at_home(item) for name, item in before.items()}
        changed = {name: item for name, item in after.items() if item != before[name]}
        return dataclasses.replace(value, **changed) if changed else value
    return value


def _read(expected: Any, data: Any, where: str) -> Any:
    origin = get_origin(expected)
    if origin is typing.Annotated:
        return _read(get_args(expected)[0], data, where)
    if origin in (Union, types.UnionType):
        return _read_union(get_args(expected), data, where)
    if dataclasses.is_dataclass(expected):
        return _read_dataclass(expected, data, where)
    if origin is Literal:
        _require(data in get_args(expected), f"one of {list(get_args(expected))}", data, where)
        return data
    if origin is tuple:
        return _read_tuple(get_args(expected), data, where)
    if origin is dict:
        _require(isinstance(data, dict), "an object", data, where)
        return {key: _read(get_args(expected)[1], item, f"{where}.{key}") for key, item in data.items()}
    return _read_scalar(expected, data, where)


def _read_scalar(expected: Any, data: Any, where: str) -> Any:
    if isinstance(expected, type) and issubclass(expected, enum.Enum):
        _require(data in expected.__members__, f"one of {list(expected.__members__)}", data, where)
        return expected[data]
    if expected is Path:
        _require(isinstance(data, str), "a path", data, where)
        return at_home(Path(data))
    if expected is type(None):
        _require(data is None, "null", data, where)
        return None
    if expected is float:
        _require(isinstance(data, int | float) and not isinstance(data, bool), "a number", data, where)
        _require(math.isfinite(data), "a finite number", data, where)
        return float(data)
    if expected in (bool, int, str):
        _require(type(data) is expected, f"a value of type {expected.__name__}", data, where)
        return data
    raise TypeError(f"{where}: configs do not support fields of type {expected}")


def _read_dataclass(expected: Any, data: Any, where: str) -> Any:
    _require(isinstance(data, dict), f"an object ({expected.__name__})", data, where)
    tag = data.get(TYPE_TAG, expected.__name__)
    _require(tag == expected.__name__, f"type {expected.__name__}", tag, where)
    hints = typing.get_type_hints(expected, include_extras=True)
    names = [field.name for field in dataclasses.fields(expected)]
    if unknown := set(data) - set(names) - {TYPE_TAG}:
        raise ValueError(f"{where}: {expected.__name__} has no field {sorted(unknown)}; its fields are {names}")
    given = {name: _read(hints[name], data[name], f"{where}.{name}") for name in names if name in data}
    try:
        return expected(**given)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def _read_tuple(items: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    _require(isinstance(data, list), "a list", data, where)
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(_read(items[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    _require(len(data) == len(items), f"a list of {len(items)} entries", data, where)
    return tuple(_read(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(items, data, strict=True)))


def _read_union(options: tuple[Any, ...], data: Any, where: str) -> Any:
    """A tagged dataclass by its name; any other option by the first that fits."""
    if isinstance(data, dict) and TYPE_TAG in data:
        by_name = {kind.__name__: kind for kind in options if isinstance(kind, type) and dataclasses.is_dataclass(kind)}
        _require(data[TYPE_TAG] in by_name, f"a type among {sorted(by_name)}", data[TYPE_TAG], where)
        return _read(by_name[data[TYPE_TAG]], data, where)
    failures = []
    for option in options:
        try:
            return _read(option, data, where)
        except ValueError as error:
            failures.append(str(error))
    raise ValueError("; or ".join(failures))


def _require(condition: bool, expected: str, given: Any, where: str) -> None:
    if not condition:
        raise ValueError(f"{where}: expected {expected}, got {given!r}")

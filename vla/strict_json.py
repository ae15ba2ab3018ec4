"""JSON as its standard has it, without NaN and infinity, which other programs refuse to read; no torch, no numpy."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any


def strict_json(data: Any, *, indent: int | None = None, sort_keys: bool = False, ensure_ascii: bool = True) -> str:
    """``data`` as JSON text; ``ValueError`` names the place of a number that is not finite."""
    try:
        return json.dumps(data, indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii, allow_nan=False)
    except ValueError:
        for place, number in _not_finite(data):
            raise ValueError(f"{place or 'the value'}: expected a finite number, got {number}") from None
        raise


def finite(data: Any) -> Any:
    """``data`` with None for every number that is not finite, tuples made lists."""
    if isinstance(data, Mapping):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _not_finite(data: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """Every number that is not finite, with its dotted place."""
    if isinstance(data, float) and not math.isfinite(data):
        yield place, data
    inside = data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list | tuple) else ()
    for name, value in inside:
        yield from _not_finite(value, f"{place}.{name}" if place else str(name))

"""What differs between two descriptions, entry by entry: an error that printed both whole would hide it."""

import json
from collections.abc import Mapping
from typing import Any

from vla.strict_json import strict_json

SHOWN = 12
"""Entries that a message names at most."""
SHORT = 70
"""Characters of an object that is shown whole."""
_ABSENT = object()


def differences(there: Any, here: Any) -> str:
    """A line for every entry in which two JSON-ready values differ: ``  env.robot: "panda" there, "ur5e" now``.

    Lists of named objects (cameras, dimensions) are compared by name. Empty where nothing differs.
    """
    lines = _compare("", json.loads(strict_json(there)), json.loads(strict_json(here)))
    more = [f"  … and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join([*lines[:SHOWN], *more])


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """The entries of a nested value by their dotted names; an empty object or list is an entry."""
    parts = _entries(value)
    if not parts:
        return {name: value}
    return {inner: entry for key, part in parts.items() for inner, entry in flat(part, _joined(name, key)).items()}


def _compare(name: str, there: Any, here: Any) -> list[str]:
    if there == here:
        return []
    before, now = _entries(there), _entries(here)
    if before is None or now is None or not (before.keys() & now.keys()):
        return [f"  {name}: {_shown(there)} there, {_shown(here)} now"]
    lines = []
    for key in dict.fromkeys([*before, *now]):
        lines += _compare(_joined(name, key), before.get(key, _ABSENT), now.get(key, _ABSENT))
    return lines or [f"  {name}: {list(before)} in this order there, {list(now)} now"]


def _entries(value: Any) -> dict[str, Any] | None:
    """What an object holds by key, a list of named objects by name; ``None`` for anything else."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
        return {item["name"]: item for item in value}
    return None


def _joined(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = strict_json(value, ensure_ascii=False)
    return text if len(text) <= SHORT or _entries(value) is None else "present"

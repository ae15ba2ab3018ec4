"""What a row's demonstrations are perturbed by, beside what its policies are tested under."""

from dataclasses import fields
from typing import Any

from claim_rows import Row, is_axis

from envs.perturbations import axes
from envs.perturbations.ranges import Axis

_CHOSEN = ("level",)
"""Numbers that are what they say; another single number is the range from 0 to it."""
_SAME = 1e-9


def ranges(row: Row) -> list[dict[str, str]]:
    """A line for each axis of each perturbed condition, where some of the demonstrations are perturbed as well.

    *outside* names what the test takes further than these demonstrations do, as far as both vary it in the same terms.
    """
    parts = [part.perturbation for method in row.methods for part in row.recording_of(method).parts]
    trained: dict[str, Axis] = {}
    for name in filter(None, parts):
        for each in axes(name).values():
            trained |= each.axes
    return [
        _line(condition, axis, trained.get(axis), test)
        for condition in filter(is_axis, row.conditions if trained else ())
        for each in axes(condition).values()
        for axis, test in each.axes.items()
    ]


def _line(condition: str, axis: str, training: Axis | None, test: Axis) -> dict[str, str]:
    numbers = [each.name for each in fields(test)]  # pyright: ignore[reportArgumentType]  (every axis is a dataclass)
    shared = [number for number in numbers if hasattr(training, number)]
    outside = [number for number in shared if not _within(_choice(test, number), _choice(training, number))]
    return {
        "condition": condition,
        "axis": axis,
        "demonstrations": _said(training, shared)
        if shared
        else "not varied"
        if training is None
        else "varied otherwise",
        "test": _said(test, numbers),
        "outside": ", ".join(outside if shared else numbers),
    }


def _said(config: Axis | None, numbers: list[str]) -> str:
    return "; ".join(f"{number} {_in_words(getattr(config, number))}" for number in numbers)


def _in_words(value: Any) -> str:
    if not isinstance(value, tuple):
        return value if isinstance(value, str) else f"{value:.3g}"
    if isinstance(value[0], str):
        return ", ".join(value)
    return " … ".join(dict.fromkeys(f"{end:.3g}" for end in value))


def _choice(config: Any, number: str) -> tuple[Any, ...]:
    """A range's ends, or names."""
    value = getattr(config, number)
    if isinstance(value, tuple):
        return value
    return (value, value) if number in _CHOSEN or isinstance(value, str) else (0, value)


def _within(test: tuple[Any, ...], training: tuple[Any, ...]) -> bool:
    if isinstance(test[0], str):
        return set(test) <= set(training)
    return training[0] <= test[0] + _SAME and test[-1] <= training[-1] + _SAME

"""What ``randomised`` trains under beside what the other presets test, as rows of a table.

``python -m envs.perturbations.apart`` prints it in Markdown.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, NamedTuple

from envs.perturbations.presets import axes
from envs.perturbations.randomised import RANDOMISED, Apart
from envs.perturbations.ranges import Axis, Range

Choice = Range | tuple[str, ...]


class Row(NamedTuple):
    """One number of one axis: its range, or its names, in training and in the named tests together."""

    axis: str
    apart: Apart
    training: Choice
    test: Choice


def rows() -> Iterator[Row]:
    """Every rule of :data:`RANDOMISED` with the ranges that it speaks of."""
    for axis, row in RANDOMISED.items():
        for apart in row.apart:
            if apart.tests:
                choices = [choice(config, apart.number) for config in tested(axis, apart)]
                yield Row(axis, apart, choice(row.training, apart.number), _together(choices))
            else:
                for number in (field.name for field in fields(row.training)):  # pyright: ignore[reportArgumentType]
                    yield Row(axis, replace(apart, number=number), choice(row.training, number), ())


def tested(axis: str, apart: Apart) -> list[Axis]:
    """The axis' configs in the test presets that the rule names."""
    named = [each for name in apart.tests for each in axes(name).values()]
    return [each.axes[axis] for each in named if axis in each.axes]


def choice(config: Axis, number: str) -> Choice:
    """A config's range or names; a single number is the range from 0 to it."""
    value: Any = getattr(config, number)
    if isinstance(value, str):
        return (value,)
    return value if isinstance(value, tuple) else (0, value)


def _together(choices: list[Choice]) -> Choice:
    if isinstance(choices[0][0], str):
        return tuple(dict.fromkeys(str(name) for names in choices for name in names))
    ends = [float(end) for each in choices for end in each]
    return min(ends), max(ends)


def markdown() -> str:
    """The table of ``docs/simulation.md``."""
    lines = ["| axis | number | training | tests | of | rule |", "|---|---|---|---|---|---|"]
    for axis, apart, training, test in rows():
        tests = _shortened(apart.tests)
        lines.append(f"| {axis} | {apart.number} | {_said(training)} | {_said(test)} | {tests} | {apart.rule} |")
    return "\n".join(lines)


def _said(given: Choice) -> str:
    if not given:
        return ""
    if isinstance(given[0], str):
        return ", ".join(map(str, given))
    return " … ".join(f"{end:.3g}" for end in given)


def _shortened(tests: tuple[str, ...]) -> str:
    """Levels of one axis together: ``libero-plus-7:camera/4, 5``."""
    levels: dict[str, list[str]] = {}
    for name in tests:
        axis, _, level = name.partition("/")
        levels.setdefault(axis, []).append(level)
    return "; ".join(axis + ("/" if any(found) else "") + ", ".join(found) for axis, found in levels.items())


if __name__ == "__main__":
    print(markdown())

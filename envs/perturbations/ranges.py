"""Ranges, and what an axis is as built: with these, a perturbation's strength is one number."""

from dataclasses import replace
from math import isfinite
from typing import Any, ClassVar, Self

Range = tuple[float, float]


class Axis:
    """The base of an axis' config.

    ``built`` says, for those of its numbers that measure how much changes, which value changes nothing. A config
    without any can only be there or not.
    """

    built: ClassVar[dict[str, float]] = {}

    def scaled(self, strength: float) -> Self:
        """The numbers of ``built`` brought as near as ``strength`` to what they are as built: 0 there, 1 as given."""
        changes: dict[str, Any] = {}
        for name, as_built in self.built.items():
            given = getattr(self, name)
            whole = all(isinstance(number, int) for number in (given if isinstance(given, tuple) else (given,)))

            def nearer(number: float, as_built: float = as_built, whole: bool = whole) -> float:
                # The second form is exact at 1.
                moved = number - (1 - strength) * (number - as_built)
                return round(moved) if whole else moved

            changes[name] = tuple(map(nearer, given)) if isinstance(given, tuple) else nearer(given)
        return replace(self, **changes)  # pyright: ignore[reportArgumentType]  (every axis is a dataclass)


def check_range(name: str, given: Range, low: float, high: float) -> None:
    """``ValueError`` unless ``given`` is a range within ``low`` … ``high``."""
    if not (all(isfinite(end) for end in given) and low <= given[0] <= given[1] <= high):
        raise ValueError(f"expected {low} <= low <= high <= {high} for {name}, got {given}")


def check_names(what: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    """``ValueError`` unless ``given`` are one or several of ``known``."""
    if not given or not set(given) <= set(known):
        raise ValueError(f"expected at least one {what} out of {', '.join(known)}; got {given}")

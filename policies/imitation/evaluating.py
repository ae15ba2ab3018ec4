"""Trying a policy out while it learns, and which of a run's checkpoints did best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from policies.intervals import Interval, wilson
from policies.policy import Policy

SUCCESS = "success/"
"""What the names of success rates begin with; the task follows."""
ALL = "all"
"""Stands for all tasks together."""


class Evaluator(Protocol):
    """Tries a policy out every so many optimiser steps."""

    @property
    def every(self) -> int: ...

    @property
    def about(self) -> str:
        """On what, in words: results with the same words can be compared."""
        ...

    def outcomes(self, policy: Policy[Any]) -> Mapping[str, Sequence[bool]]:
        """By task, whether each episode was a success."""
        ...


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best that an evaluation found of a run: after how many steps, and how well it did over all tasks."""

    step: int
    success: float
    about: str

    def __str__(self) -> str:
        """``step 1500, success 85.0 % on …``"""
        return f"step {self.step}, success {self.success:.1%} on {self.about}"

    @classmethod
    def of(cls, step: int, outcomes: Mapping[str, Sequence[bool]], about: str) -> "Best":
        return cls(step=step, success=_pooled(outcomes).value, about=about)

    def unless(self, earlier: "Best | None") -> "Best":
        """``earlier`` if that was better at the same, else this one: of equals, what has learned longer."""
        if earlier is None or earlier.about != self.about or earlier.success <= self.success:
            return self
        return earlier


def report_of(outcomes: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Success rates of each task and of all together, each with the bounds of its Wilson interval."""
    rates = {task: wilson(sum(won), len(won)) for task, won in outcomes.items()} | {ALL: _pooled(outcomes)}
    bounds = ((f"{SUCCESS}{task}", rate) for task, rate in rates.items())
    return {
        f"{name}{suffix}": value
        for name, rate in bounds
        for suffix, value in (("", rate.value), ("_lo", rate.lo), ("_hi", rate.hi))
    }


def _pooled(outcomes: Mapping[str, Sequence[bool]]) -> Interval:
    won = [success for episodes in outcomes.values() for success in episodes]
    return wilson(sum(won), len(won))

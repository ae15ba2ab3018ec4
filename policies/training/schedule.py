"""A run's training as a row of stages, and where each lies on the optimiser steps.

Stages have shares of a run, not numbers of steps, so that a run of another length needs no other stages.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How much of a run a stage takes, and how fast is learned in it.

    ``share`` of the run's steps, 0 to leave the stage out. ``rate`` multiplies the run's learning rate, which rises
    linearly from near 0 in the stage's first ``warmup_steps`` (in all of a stage that is shorter): what has its first
    gradient here has no moments in the optimiser yet.
    """

    share: float = 1.0
    rate: float = 1.0
    warmup_steps: int = 100

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"a stage's share of the steps must lie in 0…1, got {self.share}")
        if not 0 < self.rate < math.inf:
            raise ValueError(f"a stage's rate must be a positive number, got {self.rate}")
        if self.warmup_steps < 0:
            raise ValueError(f"a stage's warmup_steps must be 0 or more, got {self.warmup_steps}")


S = TypeVar("S", bound=Pace)
S_co = TypeVar("S_co", bound=Pace, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Span(Generic[S_co]):
    """A stage on the steps ``first … end − 1`` (0-based) of the leg that ends before ``leg_end``.

    A leg is a stretch with one fall of the learning rate, from ``falls_from`` on, where the leg's first warm-up ends.
    """

    stage: S_co
    first: int
    end: int
    falls_from: int
    leg_end: int

    @property
    def warmup_steps(self) -> int:
        return min(self.stage.warmup_steps, self.end - self.first)


def check_rates(*, lr: float, min_lr_ratio: float, grad_clip: float, ema_decay: float) -> None:
    """``ValueError`` that names the first of a run's rates which no training can have."""
    if not 0 <= ema_decay < 1:
        raise ValueError(f"ema_decay must lie in [0, 1), got {ema_decay}")
    if not (0 < lr < math.inf and grad_clip > 0):
        raise ValueError(f"lr and grad_clip must be positive numbers, got {lr} and {grad_clip}")
    if not 0 <= min_lr_ratio <= 1:
        raise ValueError(f"min_lr_ratio must lie in 0…1, got {min_lr_ratio}")


def check_shares(stages: Sequence[Pace]) -> None:
    """``ValueError`` unless the stages' shares make up a whole run."""
    total = sum(stage.share for stage in stages)
    if abs(total - 1) > 1e-6:
        shares = " + ".join(f"{stage.share:g}" for stage in stages) or "no stage"
        raise ValueError(f"the shares of a run's stages must add up to 1, got {shares} = {total:g}")


def lay_out(stages: Sequence[S], legs: Sequence[int]) -> tuple[Span[S], ...]:
    """The stages on the steps of a run whose legs end before these steps.

    The first leg has all stages; every later one, by which a finished run was lengthened, has the last stage alone.
    Stages whose share is below half a step have none.
    """
    spans: list[Span[S]] = []
    leg_first, in_leg = 0, tuple(stages)
    for leg_end in legs:
        if leg_end <= leg_first:
            raise ValueError(f"every leg of a run must end after the one before it, got ends {list(legs)}")
        spans += _lay_out_leg(in_leg, leg_first, leg_end)
        leg_first, in_leg = leg_end, (replace(stages[-1], share=1.0),)
    return tuple(spans)


def _lay_out_leg(stages: Sequence[S], leg_first: int, leg_end: int) -> list[Span[S]]:
    shares = [sum(stage.share for stage in stages[: index + 1]) for index in range(len(stages))]
    ends = [leg_first + round(share * (leg_end - leg_first)) for share in shares]
    placed = [
        (stage, first, end) for stage, first, end in zip(stages, [leg_first, *ends], ends, strict=False) if end > first
    ]
    stage, first, end = placed[0]
    falls_from = first + min(stage.warmup_steps, end - first)
    return [
        Span(stage=stage, first=first, end=end, falls_from=falls_from, leg_end=leg_end) for stage, first, end in placed
    ]


def span_at(spans: Sequence[Span[S]], step: int) -> Span[S]:
    """The span that 0-based ``step`` lies in; ``IndexError`` beyond the last."""
    for span in spans:
        if span.first <= step < span.end:
            return span
    raise IndexError(f"the run's stages end before step {spans[-1].end}, asked for step {step}")

"""The stages of imitation: what counts, on which frames, what learns and how fast."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from policies.training.schedule import Pace
from vla.objectives import LossWeights

Frames = Literal["all", "motion_starts"]


@dataclass(frozen=True, kw_only=True)
class Stage(Pace):
    """A part of a run's training.

    ``share`` of the run's steps, ``rate`` and ``warmup_steps`` are its :class:`Pace`; ``weights`` those of the losses.
    ``frames``: all of the demonstrations', or only the first ones of each motion, where neither state nor momentum says
    where to go. ``learns`` holds the names of parts (``head``, ``backbone.waypoint``, …) whose parameters learn, the
    rest being frozen and in evaluation mode; empty lets everything learn.
    """

    weights: LossWeights = field(default_factory=LossWeights)
    frames: Frames = "all"
    learns: tuple[str, ...] = ()


def stages_for(stages: Iterable[Stage], *, locates: bool) -> tuple[Stage, ...]:
    """The stages that a network can learn in, sharing the run among them.

    One that does not locate (predicts no waypoint) has nothing to learn in stages of the waypoint alone. ``ValueError``
    if none is left.
    """
    possible = [stage for stage in stages if stage.share > 0 and (locates or stage.weights.action > 0)]
    total = sum(stage.share for stage in possible)
    if not total:
        raise ValueError("the network predicts no waypoint, and no stage of the training has a weight on the actions")
    return tuple(replace(stage, share=stage.share / total) for stage in possible)

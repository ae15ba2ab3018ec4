"""The stages of imitation: what counts, on which frames, what learns and how fast."""

import math
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
    where to go.

    ``rates`` multiply the learning rate of parts by name (``head``, ``backbone.image_encoder``, …): 0 freezes one,
    which is then in evaluation mode. Of several parts that a parameter lies in, the one named most closely counts.
    ``learns`` holds the names of parts beside which nothing learns but what ``rates`` name; where it is empty,
    everything else learns.
    """

    weights: LossWeights = field(default_factory=LossWeights)
    frames: Frames = "all"
    learns: tuple[str, ...] = ()
    rates: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for part, rate in self.rates.items():
            if not 0 <= rate < math.inf:
                raise ValueError(f"the rate of a part must be a number from 0 on, got {rate} for {part!r}")

    @property
    def parts(self) -> dict[str, float]:
        """The parts that the stage names, and what multiplies their learning rate."""
        return dict.fromkeys(self.learns, 1.0) | self.rates

    def rate_of(self, name: str) -> float:
        """What multiplies the learning rate of the parameter ``name``; 0 where it is frozen."""
        named = {part: rate for part, rate in self.parts.items() if lies_in(name, part)}
        return named[max(named, key=len)] if named else float(not self.learns)


def lies_in(name: str, part: str) -> bool:
    """Whether the parameter ``name`` is, or lies in, ``part`` of the network."""
    return name == part or name.startswith(f"{part}.")


def stages_for(stages: Iterable[Stage], *, locates: bool) -> tuple[Stage, ...]:
    """The stages that a network can learn in, sharing the run among them.

    One that does not locate (predicts no waypoint) has nothing to learn in stages of the waypoint alone. ``ValueError``
    if none is left.
    """
    possible = [stage for stage in stages if stage.share > 0 and (locates or stage.weights.beside_waypoint)]
    total = sum(stage.share for stage in possible)
    if not total:
        raise ValueError("the network predicts no waypoint, and no stage of the training has a weight on the actions")
    return tuple(replace(stage, share=stage.share / total) for stage in possible)

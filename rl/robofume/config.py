"""The settings of fine-tuning without resets."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from rl.rewards.config import HeadConfig

Judge = Literal["classifier", "simulator"]
"""Whose word ends an attempt and pays for it: the classifier's, or the simulator's own, which no robot has."""
Resets = Literal["bounds", "attempts"]
"""When a world is put back: when it has left its bounds or stood for long enough, or after each attempt."""


FEW_DEMONSTRATIONS = HeadConfig(steps=300, dropout=0.4, weight_decay=0.1)
"""How a classifier learns some dozens of demonstrations, which it soon knows by heart."""


@dataclass(frozen=True, kw_only=True)
class CalQLConfig:
    """How critics and policy learn: an ensemble of ``critics``, perceptrons of ``layers`` hidden layers of ``width`` on
    frozen features and the executed part of a chunk, learns at ``lr``; targets follow at the rate ``tau``.

    A success is worth ``reward``. ``conservative`` weighs CQL's regulariser, which asks about ``actions`` drawn evenly
    and as many of the policy's, here and at what came after; ``weighted`` counts each by one over its density.
    ``imitate`` is the weight of imitation in the policy's loss, in which values count by their own size.
    """

    critics: int = 2
    width: int = 128
    layers: int = 2
    lr: float = 3e-4
    tau: float = 0.005
    reward: float = 10.0
    conservative: float = 0.5
    actions: int = 4
    weighted: bool = False
    calibrate: bool = True
    imitate: float = 2.0

    def __post_init__(self) -> None:
        if min(self.critics, self.width, self.layers, self.actions) < 1 or min(self.lr, self.reward) <= 0:
            raise ValueError(f"expected critics, width, layers, actions, lr and reward above 0, got {self}")
        if not 0 < self.tau <= 1 or min(self.conservative, self.imitate) < 0:
            raise ValueError(f"expected tau in 0 … 1, not 0, and weights that are not negative, got {self}")


@dataclass(frozen=True, kw_only=True)
class RoboFuMEConfig:
    """Fine-tuning without resets: the first ``offline`` iterations learn from demonstrations alone, by ``updates``
    each; in the others the policy also acts, and of every batch of ``batch_size`` a share is ``demonstrated``.

    ``judge`` says when an attempt has succeeded: then it is over, and the opposite is asked for. An attempt that takes
    ``attempt_steps`` control steps (0: as long as the task gives it) is cut short, and asked for again. ``resets`` says
    when a world is put back.

    The classifier is fitted to the demonstrations as ``head`` says; its threshold is chosen for ``precision``, by the
    vote of more than half of the last ``votes`` decisions, on what those say that are fitted without one of ``folds``
    parts. ``refined`` is the width of what learns on top of the policy's head.
    """

    offline: int = 16
    updates: int = 40
    batch_size: int = 128
    demonstrated: float = 0.5
    judge: Judge = "classifier"
    resets: Resets = "bounds"
    attempt_steps: int = 0
    precision: float = 0.9
    votes: int = 3
    folds: int = 5
    refined: int = 256
    head: HeadConfig = FEW_DEMONSTRATIONS
    calql: CalQLConfig = field(default_factory=CalQLConfig)

    def __post_init__(self) -> None:
        if self.judge not in get_args(Judge) or self.resets not in get_args(Resets):
            raise ValueError(
                f"expected a judge out of {', '.join(get_args(Judge))} and resets out of "
                f"{', '.join(get_args(Resets))}, got {self.judge!r} and {self.resets!r}"
            )
        if (
            min(self.updates, self.batch_size, self.votes, self.refined) < 1
            or min(self.offline, self.attempt_steps) < 0
        ):
            raise ValueError(
                f"expected updates, batch_size, votes and refined of at least 1 and nothing negative, got {self}"
            )
        if not 0 <= self.demonstrated <= 1 or not 0 < self.precision <= 1 or self.folds < 2:
            raise ValueError(f"expected shares in 0 … 1, a precision above 0 and at least 2 folds, got {self}")

"""Configs of what bodies feel: sizes, masses, where things and the arm start, and what goes wrong with the arm.

A range is ``(low, high)``, drawn from uniformly once per episode.
"""

from dataclasses import dataclass
from typing import ClassVar

from envs.perturbations.ranges import Axis, Range, check_range

THING_SIZES = (0.5, 2.0)
LONGEST_LATENCY = 5
"""Control steps."""


@dataclass(frozen=True, kw_only=True)
class Size(Axis):
    """All lengths of the things times ``factor``, one for all things of the axis in a world, at constant density: mass
    grows with its cube, inertia with its fifth power. Things that are not resizable, and those with a moving part, keep
    their size.
    """

    factor: Range
    built: ClassVar = {"factor": 1.0}

    def __post_init__(self) -> None:
        check_range("factor", self.factor, *THING_SIZES)


@dataclass(frozen=True, kw_only=True)
class Scaled(Axis):
    """A physical quantity times ``factor``, the same for all that it concerns in a world."""

    factor: Range
    built: ClassVar = {"factor": 1.0}

    def __post_init__(self) -> None:
        check_range("factor", self.factor, 0.01, 100.0)


@dataclass(frozen=True, kw_only=True)
class Distractors(Axis):
    """``count`` more things, fewer where there is no room, of colours that no instruction names, beside where the
    task's may stand.
    """

    count: int = 2

    def __post_init__(self) -> None:
        check_range("count", (1, self.count), 1, 6)


@dataclass(frozen=True, kw_only=True)
class Displacement(Axis):
    """Things that can be carried start ``distance_m`` from where the task put them, within reach and clear of all
    others; those for which no such place is found stay.

    Where things look alike, so that only their place tells which is meant, everything moves together.
    """

    distance_m: Range
    built: ClassVar = {"distance_m": 0.0}

    def __post_init__(self) -> None:
        check_range("distance_m", self.distance_m, 0.0, 0.3)


@dataclass(frozen=True, kw_only=True)
class RobotStart(Axis):
    """The arm starts ``distance_rad`` from home along a random direction in joint space, or as far as the joints'
    limits allow.
    """

    distance_rad: Range
    built: ClassVar = {"distance_rad": 0.0}

    def __post_init__(self) -> None:
        check_range("distance_rad", self.distance_rad, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Gains(Axis):
    """The servos of the arm's joints are stiffer or softer, and damped more or less, by a factor each."""

    stiffness: Range
    damping: Range
    built: ClassVar = {"stiffness": 1.0, "damping": 1.0}

    def __post_init__(self) -> None:
        check_range("stiffness", self.stiffness, 0.2, 5.0)
        check_range("damping", self.damping, 0.2, 5.0)


@dataclass(frozen=True, kw_only=True)
class Latency(Axis):
    """Commands take effect some control steps late; how many, both ends included, is drawn per episode.

    Until the first command arrives, the arm is told to stay, the gripper open.
    """

    steps: tuple[int, int]
    built: ClassVar = {"steps": 0}

    def __post_init__(self) -> None:
        if not all(isinstance(step, int) for step in self.steps):
            raise ValueError(f"expected whole control steps, got {self.steps}")
        check_range("steps", self.steps, 0, LONGEST_LATENCY)


@dataclass(frozen=True, kw_only=True)
class ActionNoise(Axis):
    """Normal noise on the changes that the arm is told to make, fresh at every step; absolute commands, as the
    gripper's, are exempt.

    ``std`` is a share of half of each dimension's range.
    """

    std: Range
    built: ClassVar = {"std": 0.0}

    def __post_init__(self) -> None:
        check_range("std", self.std, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Pushes(Axis):
    """Now and then one of the things that can be carried, unless it is at the gripper, is knocked in a horizontal
    direction: its velocity changes by ``speed_m_s``.

    Drawn per episode: ``probability`` per control step, and the ``speed_m_s`` of all its pushes.
    """

    probability: Range
    speed_m_s: Range
    built: ClassVar = {"speed_m_s": 0.0}

    def __post_init__(self) -> None:
        check_range("probability", self.probability, 0.0, 1.0)
        check_range("speed_m_s", self.speed_m_s, 0.0, 0.5)

"""What the simulators of other projects have in common: tasks, suites, seeds, and the meaning of their numbers."""

import importlib.util
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from envs.language import Phrasings, Split
from envs.simulators.seeing import Seeing
from envs.simulators.world import SimulatorWorld
from envs.specs import STREAMS, Dimension, Stream

MakeWorld = Callable[[], SimulatorWorld]


class DivergedError(RuntimeError):
    """The simulator's physics blew up; the world has to be reset."""


@dataclass(frozen=True, kw_only=True)
class SimulatedTask:
    """A task of another project's simulator.

    ``name`` is its id, SUITE/TASK, ``there`` what the simulator itself calls it. ``expert``: there is a demonstrator.
    """

    name: str
    there: str
    phrasings: Phrasings
    max_episode_steps: int
    expert: bool

    @property
    def goal(self) -> str:
        """What is asked for, whatever the phrasing."""
        return self.phrasings.train[0]


@dataclass(frozen=True, kw_only=True)
class SimulatorSuite:
    """Tasks of one simulator, which ``pip install 'vla-stack[extra]'`` brings.

    ``world_of`` gives a picklable maker of worlds; it imports the simulator when it is called, and not before.
    """

    name: str
    about: str
    extra: str
    module: str
    tasks: tuple[SimulatedTask, ...]
    world_of: Callable[[SimulatedTask, Seeing, Split], MakeWorld]

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.tasks)

    def check_installed(self) -> None:
        """``ModuleNotFoundError`` says what to install where the simulator is missing."""
        if not self.installed:
            raise ModuleNotFoundError(
                f"the suite {self.name} needs {self.module}: pip install 'vla-stack[{self.extra}]'", name=self.module
            )

    @property
    def installed(self) -> bool:
        """Whether the simulator is there; it is looked for without being loaded."""
        return importlib.util.find_spec(self.module) is not None


def episode_generator(stream: Stream, seed: int, what: str) -> np.random.Generator:
    """Random numbers for one purpose in the episode of a stream and seed; those of two streams never meet."""
    return np.random.default_rng([zlib.crc32(what.encode()), STREAMS.index(stream), seed])


def phrase(task: SimulatedTask, split: Split, stream: Stream, seed: int) -> str:
    """The instruction of an episode, one of the task's phrasings of ``split``."""
    return task.phrasings.choose(split, episode_generator(stream, seed, "phrasing").random())


GRIPPER_COMMAND = Dimension(name="gripper", unit="0 open … 1 closed", low=0.0, high=1.0, frame="gripper")


def position_dimensions(reach_m: float, prefix: str = "") -> tuple[Dimension, ...]:
    """Where the tool is, in the world."""
    return tuple(Dimension(name=f"{prefix}tool_{axis}", unit="m", low=-reach_m, high=reach_m) for axis in "xyz")


def axes_dimensions(prefix: str = "") -> tuple[Dimension, ...]:
    """The x and y axes of the tool's frame, in the world: a rotation without a sign to flip (Zhou et al. 2019)."""
    return tuple(
        Dimension(name=f"{prefix}tool_{axis}_axis_{part}", unit="1", low=-1.0, high=1.0)
        for axis in "xy"
        for part in "xyz"
    )


def gripper_state(prefix: str = "") -> Dimension:
    """How far the gripper is closed."""
    return Dimension(name=f"{prefix}gripper_closed", unit="0 open … 1 closed", low=0.0, high=1.0, frame="gripper")


def delta_dimensions(
    names: str, unit: str, most: float, frame: str = "world", prefix: str = ""
) -> tuple[Dimension, ...]:
    """Changes per control step along three axes: ``d`` for a way, ``r`` for a turn (a rotation vector)."""
    return tuple(
        Dimension(name=f"{prefix}{names}{axis}", unit=unit, low=-most, high=most, frame=frame, relative=True)
        for axis in "xyz"
    )


def flat_axes(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " 6"]:
    """The numbers of :func:`axes_dimensions`, rounding not beyond their bounds."""
    return np.clip(np.concatenate((rotation[:, 0], rotation[:, 1])), -1, 1)

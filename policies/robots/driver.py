"""What a robot is to us: a few calls that its own software is wrapped in.

None of it is a certified safety function. A robot needs its own limits, its own emergency stop within a person's reach,
and software of its own that stands still when nobody commands it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from envs.specs import STATE_KEY, EmbodimentSpec


class RobotError(RuntimeError):
    """The robot cannot be reached, says nothing new, or sends what it should not; the text says which part of it."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far a robot may be told to go in one control step, dimension by dimension of its action.

    ``max_step`` bounds the size of a relative number and the change of an absolute one, in its unit; infinite for no
    limit but the embodiment's bounds. ``follows`` is the place in the state of what an absolute number commands (a
    joint's angle for a joint's command), None where nothing is sensed of it: by it the first command is limited too.
    """

    max_step: tuple[float, ...]
    follows: tuple[int | None, ...]

    @classmethod
    def none(cls, embodiment: EmbodimentSpec) -> "Limits":
        """No limit but the embodiment's bounds; a command follows the state of the same name, if there is one."""
        names = [dim.name for dim in embodiment.state]
        follows = tuple(names.index(dim.name) if dim.name in names else None for dim in embodiment.action)
        return cls(max_step=(math.inf,) * embodiment.action_dim, follows=follows)

    def check(self, embodiment: EmbodimentSpec) -> None:
        """``ValueError`` for limits that do not fit the robot's action, or cannot be kept from the first command on."""
        if not len(self.max_step) == len(self.follows) == embodiment.action_dim:
            raise ValueError(f"expected limits of {embodiment.action_dim} dimensions, got {len(self.max_step)}")
        for dim, most, place in zip(embodiment.action, self.max_step, self.follows, strict=True):
            if not most > 0:
                raise ValueError(f"action {dim.name}: max_step must be positive, got {most}")
            if place is None and not dim.relative and most < math.inf:
                raise ValueError(
                    f"action {dim.name} has a max_step, but follows no state: the first command could go anywhere"
                )

    def sensed(self, observation: Mapping[str, Any]) -> np.ndarray:
        """Where each dimension of the action is now, ``(a,)`` in its unit; NaN for what follows no state."""
        state = observation[STATE_KEY]
        return np.array([np.nan if place is None else state[place] for place in self.follows], np.float32)


class Robot(Protocol):
    """One robot. Every call but ``close`` may raise :class:`RobotError`; none waits for long.

    ``connect`` reaches it and waits until it has been heard of once; called again, it reaches a robot that was lost
    anew. ``observe`` is what it senses now, unbatched numpy by the keys of ``envs.specs``, without ``task``. ``act``
    sends one action ``(a,)``, float32, in the embodiment's units, which is in force until the next; it is due
    ``control_rate_hz`` times a second, and answers what was passed on where the robot's own software may have changed
    it, None for what it was given. ``stop`` makes it stand still, and may be called at any time after ``connect``,
    from any thread; ``close`` stops it and lets it go, and is safe to call twice.
    """

    embodiment: EmbodimentSpec
    limits: Limits

    def connect(self) -> None: ...

    def observe(self) -> dict[str, Any]: ...

    def act(self, action: np.ndarray) -> np.ndarray | None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class StagedRobot(Robot, Protocol):
    """A robot whose scene sets itself up and that knows when its task is done, as a simulated one does."""

    task_name: str

    @property
    def ended(self) -> bool:
        """Whether the episode is over."""
        ...

    @property
    def success(self) -> bool:
        """Whether the task is done."""
        ...

    def begin(self, seed: int) -> str:
        """Set the scene up as ``seed`` says; returns the instruction."""
        ...

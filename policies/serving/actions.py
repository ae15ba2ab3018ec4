"""What the server does with actions that a robot must not receive.

This is a plausibility check of numbers. It is **not** a certified safety function and knows nothing
of collisions, people or the robot's state: a robot needs its own limits and emergency stop.
"""

from typing import Any, Literal, get_args

import numpy as np

from envs.specs import EmbodimentSpec
from policies.described import described

OnViolation = Literal["error", "clamp", "hold"]


class ActionError(ValueError):
    """Actions that may not be sent; the text says what was expected and what came."""


def hold_action(embodiment: EmbodimentSpec, last: np.ndarray | None) -> np.ndarray | None:
    """The action ``(a,)`` that keeps the robot where it is: 0 for relative dimensions, ``last`` for the others.

    ``last`` is the action that the robot really carried out last, not one that was planned for it. None when there is
    an absolute dimension and no last action to repeat.
    """
    relative = np.array([dim.relative for dim in embodiment.action])
    if last is None and not relative.all():
        return None
    previous = np.zeros(embodiment.action_dim, np.float32) if last is None else last
    return np.where(relative, np.float32(0.0), previous).astype(np.float32)


class ActionGuard:
    """Checks chunks ``(horizon, a)`` for shape, finiteness and the embodiment's bounds; one per connection.

    On a violation, ``error`` refuses the chunk; ``clamp`` moves out-of-range numbers to the bound and
    refuses non-finite ones; ``hold`` keeps the rows before the first bad one and stands still from
    there (:func:`hold_action`). A wrong shape is always refused. ``violations`` counts the bad rows.

    A hold from the first row on repeats what the robot did last: the ``last_action`` that it reports, else the last row
    that counts of the chunk before, ``replan_interval - 1``. A refused chunk changes nothing that is remembered.
    Not a certified safety function (see the module's docstring).
    """

    def __init__(
        self, embodiment: EmbodimentSpec, horizon: int, replan_interval: int, on_violation: OnViolation = "clamp"
    ) -> None:
        if on_violation not in get_args(OnViolation):
            raise ValueError(f"on_violation must be one of {get_args(OnViolation)}, got {on_violation!r}")
        self.embodiment = embodiment
        self.on_violation: OnViolation = on_violation
        self.violations = 0
        self._shape = (horizon, embodiment.action_dim)
        self._executed_rows = replan_interval
        self._low = np.asarray(embodiment.action_low, np.float32)
        self._high = np.asarray(embodiment.action_high, np.float32)
        self._last: np.ndarray | None = None

    def check(self, actions: Any, reset: bool = False, last_action: np.ndarray | None = None) -> np.ndarray:
        """The chunk to send, float32 ``(horizon, a)``; :class:`ActionError` when it may not be sent.

        ``last_action`` ``(a,)``, finite, is what the robot reports to have done last; it is held within the bounds.
        ``reset``: a new episode begins, of which the chunks before say nothing.
        """
        chunk = np.asarray(actions)
        if chunk.shape != self._shape or chunk.dtype.kind != "f":
            raise ActionError(f"actions must be floats of shape {self._shape}, got {described(chunk)}")
        with np.errstate(over="ignore"):
            chunk = chunk.astype(np.float32)
        finite = np.isfinite(chunk)
        bad = ~finite | (chunk < self._low) | (chunk > self._high)
        if bad.any():
            self.violations += int(bad.any(axis=1).sum())
            chunk = self._mend(chunk, bad, finite, self._in_force(reset, last_action))
        self._last = chunk[self._executed_rows - 1]
        return chunk

    def _in_force(self, reset: bool, last_action: np.ndarray | None) -> np.ndarray | None:
        """The action ``(a,)`` that the robot obeys while it waits for this chunk; None if nobody knows."""
        if last_action is not None:
            return np.clip(np.asarray(last_action, np.float32), self._low, self._high)
        return None if reset else self._last

    def _mend(self, chunk: np.ndarray, bad: np.ndarray, finite: np.ndarray, in_force: np.ndarray | None) -> np.ndarray:
        if self.on_violation == "clamp" and finite.all():
            return np.clip(chunk, self._low, self._high)
        if self.on_violation == "hold":
            first = int(bad.any(axis=1).argmax())
            still = hold_action(self.embodiment, chunk[first - 1] if first else in_force)
            if still is not None:
                return np.concatenate([chunk[:first], np.broadcast_to(still, chunk[first:].shape)])
        row, column = (int(i) for i in np.argwhere(bad)[0])
        dim = self.embodiment.action[column]
        raise ActionError(
            f"action {row}, dimension {dim.name!r} must lie in {dim.low:g} … {dim.high:g} {dim.unit}, "
            f"got {chunk[row, column]:g} ({int(bad.sum())} such numbers)"
        )

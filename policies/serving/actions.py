"""What the server does with actions that a robot must not receive.

This is a plausibility check of numbers. It is **not** a certified safety function and knows nothing
of collisions, people or the robot's state: a robot needs its own limits and emergency stop.
"""

from typing import Any, Literal, get_args

import numpy as np

from envs.specs import EmbodimentSpec

OnViolation = Literal["error", "clamp", "hold"]


class ActionError(ValueError):
    """Actions that may not be sent; the text says what was expected and what came."""


def hold_action(embodiment: EmbodimentSpec, last: np.ndarray | None) -> np.ndarray | None:
    """The action ``(a,)`` that keeps the robot where it is: 0 for relative dimensions, ``last`` for the others.

    None when there is an absolute dimension and no last action to repeat.
    """
    relative = np.array([dim.relative for dim in embodiment.action])
    if last is None and not relative.all():
        return None
    previous = np.zeros(embodiment.action_dim, np.float32) if last is None else last
    return np.where(relative, np.float32(0.0), previous).astype(np.float32)


class ActionGuard:
    """Checks chunks ``(horizon, a)`` for shape, finiteness and the embodiment's bounds; one per episode stream.

    On a violation, ``error`` refuses the chunk; ``clamp`` moves out-of-range numbers to the bound and
    refuses non-finite ones; ``hold`` keeps the rows before the first bad one and stands still from
    there (:func:`hold_action`). A wrong shape is always refused. ``violations`` counts the bad rows.
    Not a certified safety function (see the module's docstring).
    """

    def __init__(self, embodiment: EmbodimentSpec, horizon: int, on_violation: OnViolation = "clamp") -> None:
        if on_violation not in get_args(OnViolation):
            raise ValueError(f"on_violation must be one of {get_args(OnViolation)}, got {on_violation!r}")
        self.embodiment = embodiment
        self.on_violation: OnViolation = on_violation
        self.violations = 0
        self._shape = (horizon, embodiment.action_dim)
        self._low = np.asarray(embodiment.action_low, np.float32)
        self._high = np.asarray(embodiment.action_high, np.float32)
        self._last: np.ndarray | None = None

    def reset(self) -> None:
        """Forget the last action: a new episode begins."""
        self._last = None

    def check(self, actions: Any) -> np.ndarray:
        """The chunk to send, float32 ``(horizon, a)``; :class:`ActionError` when it may not be sent."""
        chunk = np.asarray(actions)
        if chunk.shape != self._shape or chunk.dtype.kind != "f":
            raise ActionError(
                f"actions must be floats of shape {self._shape}, got {chunk.dtype} of shape {chunk.shape}"
            )
        with np.errstate(over="ignore"):
            chunk = chunk.astype(np.float32)
        finite = np.isfinite(chunk)
        bad = ~finite | (chunk < self._low) | (chunk > self._high)
        if bad.any():
            self.violations += int(bad.any(axis=1).sum())
            chunk = self._mend(chunk, bad, finite)
        self._last = chunk[-1]
        return chunk

    def _mend(self, chunk: np.ndarray, bad: np.ndarray, finite: np.ndarray) -> np.ndarray:
        if self.on_violation == "clamp" and finite.all():
            return np.clip(chunk, self._low, self._high)
        if self.on_violation == "hold":
            first = int(bad.any(axis=1).argmax())
            still = hold_action(self.embodiment, chunk[first - 1] if first else self._last)
            if still is not None:
                return np.concatenate([chunk[:first], np.broadcast_to(still, chunk[first:].shape)])
        row, column = (int(i) for i in np.argwhere(bad)[0])
        dim = self.embodiment.action[column]
        raise ActionError(
            f"action {row}, dimension {dim.name!r} must lie in {dim.low:g} … {dim.high:g} {dim.unit}, "
            f"got {chunk[row, column]:g} ({int(bad.sum())} such numbers)"
        )

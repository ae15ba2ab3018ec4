"""What a robot goes on doing while it waits for its next chunk, as a request tells it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from policies.described import described
from policies.serving.keys import DELAY_STEPS, UNDERWAY, ObservationError


@dataclass(frozen=True, kw_only=True)
class RunningChunk:
    """The actions ``(k, a)`` of the present chunk from the moment of the observation on, and how many of them
    (1 … k) will probably have been carried out when the answer comes.
    """

    actions: np.ndarray
    delay_steps: int

    def to_wire(self) -> dict[str, Any]:
        """The entries of the request that say so."""
        return {UNDERWAY: np.asarray(self.actions, np.float32), DELAY_STEPS: int(self.delay_steps)}


def running_chunk(message: Mapping[str, Any], horizon: int, action_dim: int) -> RunningChunk | None:
    """The inverse of :meth:`RunningChunk.to_wire`; None where a request says nothing of it.

    ``ObservationError`` for one without the other, other shapes, more than ``horizon`` actions, and what is not finite.
    """
    actions, delay = message.get(UNDERWAY), message.get(DELAY_STEPS)
    if actions is None and delay is None:
        return None
    shape = f"(1 … {horizon}, {action_dim})"
    if not isinstance(actions, np.ndarray) or actions.ndim != 2 or actions.dtype.kind != "f":
        raise ObservationError(f"{UNDERWAY} must be float of shape {shape}, got {described(actions)}")
    if not 1 <= len(actions) <= horizon or actions.shape[1] != action_dim:
        raise ObservationError(f"{UNDERWAY} must be float of shape {shape}, got {described(actions)}")
    with np.errstate(over="ignore"):
        actions = actions.astype(np.float32)
    if not np.isfinite(actions).all():
        raise ObservationError(f"{UNDERWAY} must be finite")
    if not isinstance(delay, int) or isinstance(delay, bool) or not 1 <= delay <= len(actions):
        raise ObservationError(f"{DELAY_STEPS} must be a whole number of 1 … {len(actions)} steps, got {delay!r}")
    return RunningChunk(actions=actions, delay_steps=delay)

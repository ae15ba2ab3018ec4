"""A person's hands on a robot: how far keys or sticks are pushed becomes an action."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from envs.specs import EmbodimentSpec

FULL_RANGE_S = 1.0
"""An absolute dimension goes from one bound to the other in so many seconds at full push."""


def steered(
    embodiment: EmbodimentSpec, axes: Sequence[float], last: Float[np.ndarray, " a"] | None
) -> Float[np.ndarray, " a"]:
    """The action in the embodiment's units for pushes in −1 … 1, one for each dimension.

    A relative dimension goes as fast as its bound at full push, and stays at none. An absolute one moves on from
    ``last``, the action in force, and stays there at none; without any (None, or NaN) it starts from the middle of its
    range, or at the lower bound of one that begins at 0, as an open gripper does.
    """
    push = np.clip(np.asarray(axes, np.float32), -1.0, 1.0)
    low, high = np.array(embodiment.action_low, np.float32), np.array(embodiment.action_high, np.float32)
    relative = np.array([dim.relative for dim in embodiment.action])
    unknown = np.where(low == 0, low, (low + high) / 2)
    start = unknown if last is None else np.where(np.isnan(last), unknown, last)
    moved = start + push * (high - low) / np.float32(FULL_RANGE_S * embodiment.control_rate_hz)
    fast = np.where(push > 0, push * high, -push * low)
    return np.clip(np.where(relative, fast, moved), low, high).astype(np.float32)

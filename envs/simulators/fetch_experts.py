"""Demonstrators of the Fetch tasks: from where hand, thing and goal are, what the hand does in this step."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Expert = Callable[["Float[np.ndarray, ' 3']", "Float[np.ndarray, ' 3']", "Float[np.ndarray, ' 3']", float], np.ndarray]
"""Of the positions (m, world) of hand, thing and goal, and of how far the gripper is closed: an action."""

HOVER_M, NEAR_M = 0.08, 0.015
BEHIND_M = 0.065
"""From the middle of a block to the hand that is about to push it."""
ASTRAY_M = 0.018
"""How far the hand may be from the line along which it pushes."""
STROKE_M = 0.025
"""How far the hand pushes in a step at most."""
LOW_M = 0.03
"""Not higher above the block's middle than this the hand touches it."""
HELD = 0.35
"""The gripper is closed as far as this when it holds a block."""


def reach(hand: np.ndarray, thing: np.ndarray, goal: np.ndarray, closed: float) -> Float[np.ndarray, " 4"]:
    """Go to the goal."""
    return _moved(goal - hand, 1.0)


def push(hand: np.ndarray, thing: np.ndarray, goal: np.ndarray, closed: float) -> Float[np.ndarray, " 4"]:
    """Go behind the block, as seen from the goal, high until it is there; then push, and steer by going round again."""
    way = (goal - thing)[:2]
    left_m = float(np.linalg.norm(way))
    if left_m < NEAR_M:
        return _moved(np.zeros(3), 1.0)
    ahead = np.array([*(way / left_m), 0.0])
    from_thing = hand - thing
    along_m = float(from_thing @ ahead)
    astray_m = float(np.linalg.norm((from_thing - along_m * ahead)[:2]))
    start = thing - BEHIND_M * ahead
    if along_m < -0.02 and astray_m < ASTRAY_M and from_thing[2] < LOW_M:
        return _moved(
            ahead * min(left_m, 0.025) + [0, 0, -from_thing[2]] - (from_thing - along_m * ahead) * [1, 1, 0], 1.0
        )
    if np.linalg.norm((start - hand)[:2]) < ASTRAY_M:
        return _moved(start - hand, 1.0)
    over = start + np.array([0, 0, HOVER_M])
    low = hand[2] < thing[2] + HOVER_M - 0.02
    return _moved(np.array([0, 0, over[2] - hand[2]]) if low else over - hand, 1.0)


def pick_and_place(hand: np.ndarray, thing: np.ndarray, goal: np.ndarray, closed: float) -> Float[np.ndarray, " 4"]:
    """Come from above, close, and carry; what is dropped is fetched again."""
    from_thing = hand - thing
    aside_m = float(np.linalg.norm(from_thing[:2]))
    if aside_m < NEAR_M and abs(from_thing[2]) < NEAR_M:
        return _moved(goal - thing, 1.0) if closed > HELD else _moved(-from_thing, 1.0)
    over = np.array([*thing[:2], thing[2] + (HOVER_M if aside_m > NEAR_M else 0.0)])
    return _moved(over - hand, 0.0)


def _moved(way_m: np.ndarray, grip: float) -> np.ndarray:
    """An action that goes that way; the hand does about half of what it is told in one step."""
    return np.array([*(1.5 * np.asarray(way_m)), grip])


EXPERTS: dict[str, Expert] = {"FetchReach": reach, "FetchPush": push, "FetchPickAndPlace": pick_and_place}

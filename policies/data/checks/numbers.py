"""Dimensions that are no numbers, out of bounds, constant where they should move, or clipped; the gripper's sign."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from envs.specs import Dimension
from policies.data.checks.digest import GRIPPER_FRAME, Recording, spans
from policies.data.checks.finding import LEAVE_OUT, Finding, runs
from policies.data.sources.gripper import followed

BEYOND = {"state": 0.25, "action": 0.02}
"""Of its range: so far a dimension may be beyond its bounds. What is measured overshoots, fingers most."""
FINGERS_BEYOND = 1.0
MOVES = 0.01
"""Of its range: what moves less is still."""
OTHERS = 4
"""Other episodes that must move a dimension for one that does not to be wrong."""
PILED, PILED_THROUGHOUT = 0.05, 0.15
"""Share of the frames that may lie at the very end of what occurs, inside of the bounds: in an episode that others go
beyond, and, at both ends, in all of them together."""
FURTHER = 0.1
"""Of the range of all episodes."""
FEW_VALUES = 20
"""A dimension of fewer values is a switch, which lies at its ends always."""
SURE = 0.5


def _vectors(recording: Recording) -> Iterator[tuple[str, tuple[Dimension, ...], list[np.ndarray]]]:
    yield "state", recording.robot.state, [episode.state for episode in recording.episodes]
    yield "action", recording.robot.action, [episode.actions for episode in recording.episodes]


def out_of_bounds(recording: Recording) -> Iterator[Finding]:
    """Values that are no numbers, or beyond the bounds that the embodiment gives them."""
    for vector, dimensions, values in _vectors(recording):
        low, high = (np.array([getattr(dim, side) for dim in dimensions]) for side in ("low", "high"))
        fingers = np.array([vector == "state" and dim.frame == GRIPPER_FRAME for dim in dimensions])
        slack = np.where(fingers, FINGERS_BEYOND, BEYOND[vector]) * spans(dimensions)
        for episode, value in zip(recording.episodes, values, strict=True):
            nothing, beyond = ~np.isfinite(value), (value < low - slack) | (value > high + slack)
            for marked in (nothing, beyond):
                if marked.any():
                    frame, place = (int(index) for index in np.argwhere(marked)[0])
                    dim = dimensions[place]
                    yield Finding(
                        check="out of bounds",
                        severity="warning" if marked is beyond and vector == "state" else "error",
                        episode=episode.number,
                        frame=frame,
                        what=f"{vector} {dim.name} is {value[frame, place]:g}, bounds {dim.low:g} … {dim.high:g}; "
                        f"{int(marked.any(1).sum())} such frames",
                        remedy="correct units, or the bounds in the robot's file; " + LEAVE_OUT,
                    )


def constant_dimensions(recording: Recording) -> Iterator[Finding]:
    """A dimension that stands still in an episode and in no other, or a state that never moves at all."""
    for vector, dimensions, values in _vectors(recording):
        ranges = np.array([np.ptp(value, axis=0) for value in values]).reshape(len(values), len(dimensions))
        ranges /= spans(dimensions)
        for place, dim in enumerate(dimensions):
            still = ranges[:, place] < 1e-7
            arm = dim.frame != GRIPPER_FRAME
            if vector == "state" and arm and still.all() and len(values) > OTHERS:
                yield _constant(None, vector, dim, "in no episode")
            for number in np.flatnonzero(still) if still.sum() == 1 else ():
                rest = np.delete(ranges[:, place], number)
                if len(rest) >= OTHERS and rest.min() > MOVES:
                    yield _constant(recording.episodes[number].number, vector, dim, "in every other episode, here not")


def _constant(episode: int | None, vector: str, dim: Dimension, when: str) -> Finding:
    return Finding(
        check="constant dimensions",
        severity="error",
        episode=episode,
        what=f"{vector} {dim.name} moves {when}",
        remedy="see whether its sensor is connected; " + ("record anew without it" if episode is None else LEAVE_OUT),
    )


def clipped_dimensions(recording: Recording) -> Iterator[Finding]:
    """Dimensions that are cut in an episode where others go further, or in all though their bounds are elsewhere."""
    for vector, dimensions, values in _vectors(recording):
        whole = np.concatenate(values)
        for place, dim in enumerate(dimensions):
            ends = whole[:, place].min(), whole[:, place].max()
            cut = [_cut_inside(value[:, place], dim, ends) for value in values]
            if sum(cut) * 4 <= len(cut):
                for number in np.flatnonzero(cut):
                    yield _clipped(recording.episodes[number].number, vector, dim, values[number][:, place])
            if _cut_throughout(whole[:, place], dim):
                yield _clipped(None, vector, dim, whole[:, place])


def _cut_inside(values: Float[np.ndarray, " t"], dim: Dimension, ends: tuple[float, float]) -> bool:
    """Whether an end that other episodes go beyond is met again and again, at moments apart."""
    further = FURTHER * (ends[1] - ends[0])
    for end, beyond in ((values.min(), values.min() - ends[0]), (values.max(), ends[1] - values.max())):
        at = np.flatnonzero(values == end).tolist()
        rests = dim.relative and end == 0
        if beyond > further and not rests and len(at) > max(PILED * len(values), 3) and len(runs(at)) > 1:
            return bool(np.ptp(values) > MOVES * (dim.high - dim.low))
    return False


def _cut_throughout(values: Float[np.ndarray, " t"], dim: Dimension) -> bool:
    """Whether both ends of what occurs are met in much of the frames, and neither is a bound."""
    low, high = values.min(), values.max()
    if high - low < MOVES * (dim.high - dim.low) or len(np.unique(values)) < FEW_VALUES:
        return False
    inside = min(low - dim.low, dim.high - high) > 1e-3 * (dim.high - dim.low)
    return bool(inside and min((values == low).mean(), (values == high).mean()) > PILED_THROUGHOUT)


def _clipped(episode: int | None, vector: str, dim: Dimension, values: np.ndarray) -> Finding:
    low, high = values.min(), values.max()
    share = max((values == low).mean(), (values == high).mean())
    return Finding(
        check="clipped dimensions",
        severity="warning",
        episode=episode,
        what=f"{vector} {dim.name} is cut to {low:.4g} … {high:.4g}, {share:.0%} of the frames at an end; its bounds "
        f"are {dim.low:g} … {dim.high:g}",
        remedy="convert without clipping, or say these bounds in the robot's file",
    )


def gripper_sign(recording: Recording) -> Iterator[Finding]:
    """Commands that open the gripper where 1 is to close it, by what the fingers do after them."""
    command = [i for i, dim in enumerate(recording.robot.action) if dim.frame == GRIPPER_FRAME]
    fingers = [i for i, dim in enumerate(recording.robot.state) if dim.frame == GRIPPER_FRAME and _opens(dim)]
    if not command or not fingers:
        return
    goes = [followed([e.actions[:, command[0]]], [e.state[:, fingers[0]]]) for e in recording.episodes]
    wrong = [e.number for e, found in zip(recording.episodes, goes, strict=True) if found > SURE]
    told = sum(abs(found) > SURE for found in goes)
    everywhere = len(wrong) * 2 > told
    for episode in [None] if everywhere and wrong else wrong:
        yield Finding(
            check="gripper sign",
            severity="error",
            episode=episode,
            what="the fingers go apart when the command rises, but 1 is to close them",
            remedy="turn it when the data are converted (scale = -1, offset = 1 in the robot's file)",
        )


def _opens(dim: Dimension) -> bool:
    """Whether the number says how far the fingers are apart, not how far they are closed."""
    return "closed" not in dim.unit

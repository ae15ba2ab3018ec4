"""Keyframes of demonstrations: where a motion ends and another begins."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from envs.specs import EmbodimentSpec

GRIPPER_FRAME = "gripper"


def next_keyframe(
    actions: Float[np.ndarray, "n a"], end_frames: Int[np.ndarray, " e"], embodiment: EmbodimentSpec
) -> Int[np.ndarray, " n"]:
    """For every frame, the first frame after it that is a keyframe; a keyframe at the end of an episode is its own.

    A keyframe is an episode's last frame, or one at which a gripper command crosses the middle of its range
    (BridgeVLA, arXiv 2506.07961, names these two, and moments of standstill, which scripted motions do not have).
    """
    keyframe = np.zeros(len(actions), bool)
    keyframe[end_frames - 1] = True
    keyframe[1:] |= _gripper_changes(actions, embodiment)
    frames = np.arange(len(actions))
    marked = np.where(keyframe, frames, len(actions))
    after = np.append(marked[1:], len(actions))
    following = np.minimum.accumulate(after[::-1])[::-1]
    last = end_frames[np.searchsorted(end_frames, frames, side="right")] - 1
    return np.minimum(following, last)


def tool_dims(embodiment: EmbodimentSpec) -> tuple[int, ...]:
    """The numbers of the state that say where the tool is: metres in the world."""
    return tuple(i for i, dim in enumerate(embodiment.state) if (dim.unit, dim.frame) == ("m", "world"))


def since_segment_start(keyframes: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """How many frames ago the motion towards each frame's next keyframe began, from :func:`next_keyframe`'s answer."""
    frames = np.arange(len(keyframes))
    begins = np.append(True, keyframes[1:] != keyframes[:-1])
    return frames - np.maximum.accumulate(np.where(begins, frames, 0))


RISE_M = 0.02
"""A way that is as much higher than the straight one somewhere leads over something."""


def leads_over(
    tool_m: Float[np.ndarray, "n 3"], keyframes: Int[np.ndarray, " n"], rise_m: float = RISE_M
) -> Bool[np.ndarray, " n"]:
    """For every frame, whether the tool's way from there to the next keyframe was not straight: at some frame between
    ``rise_m`` or more above the straight line, at the point of it nearest to the tool.
    """
    over = np.zeros(len(tool_m), bool)
    for frame, end in enumerate(keyframes.tolist()):
        start, way = tool_m[frame], tool_m[end] - tool_m[frame]
        off = tool_m[frame : end + 1] - start
        share = np.clip(off @ way / max(float(way @ way), 1e-12), 0, 1)
        over[frame] = bool(((off - share[:, None] * way)[:, 2] >= rise_m).any())
    return over


@dataclass(frozen=True, kw_only=True)
class Goals:
    """For every frame, where the motion that it is part of leads, as a policy that aims learns it.

    ``keyframe`` is the frame of the keyframe. At ``reached`` the tool stands there: while fingers move it still comes
    nearer, and these frames belong to the keyframe that they move at. Where no fingers move, nothing but the tool's
    place says that it is there, so that frames from ``NEAR_M`` before it belong to what comes next: who aims a little
    beside it has to know that this is done. ``way`` is a frame before the keyframe, whose gripper command holds on the
    way.
    """

    keyframe: Int[np.ndarray, " n"]
    reached: Int[np.ndarray, " n"]
    way: Int[np.ndarray, " n"]


GRIP_STEPS = 6
"""How long fingers move at most."""
NEAR_M = 0.025
"""Who is told to go to a place, and stands as near to it, is there."""


def goals(
    actions: Float[np.ndarray, "n a"],
    tool_m: Float[np.ndarray, "n 3"],
    end_frames: Int[np.ndarray, " e"],
    embodiment: EmbodimentSpec,
) -> Goals:
    """Those of :func:`next_keyframe`, and the ends of :func:`strokes`, at which no gripper changes."""
    following = next_keyframe(actions, end_frames, embodiment)
    gripper = np.unique(following)
    marks = np.unique(np.concatenate([gripper, strokes(actions, tool_m, following)]))
    last = end_frames - 1
    still = np.array([_still(tool_m, mark, marks, last) if mark in gripper else mark for mark in marks.tolist()])
    before = np.append(0, still[:-1] + 1)
    ends = zip(before.tolist(), marks.tolist(), still.tolist(), strict=True)
    done = np.array([at if mark in gripper else start + _near(tool_m[start : mark + 1]) for start, mark, at in ends])
    frames = np.arange(len(actions))
    episode = np.searchsorted(end_frames, frames, side="right")
    index = np.minimum(np.searchsorted(done, frames, side="right"), np.searchsorted(marks, last)[episode])
    keyframe = marks[index]
    return Goals(keyframe=keyframe, reached=still[index], way=np.minimum(frames, np.maximum(keyframe - 1, 0)))


def _still(
    tool_m: Float[np.ndarray, "n 3"], mark: int, marks: Int[np.ndarray, " m"], last: Int[np.ndarray, " e"]
) -> int:
    """The frame from a change of the gripper on at which the tool moves least, while fingers move and before whatever
    comes next.
    """
    if mark in last:
        return mark
    until = min(mark + GRIP_STEPS, int(marks[np.searchsorted(marks, mark, side="right")]) - 1)
    speeds = np.linalg.norm(np.diff(tool_m[mark : until + 2], axis=0), axis=1)
    return mark + int(speeds.argmin()) if len(speeds) else mark


def _near(way_m: Float[np.ndarray, "t 3"]) -> int:
    """The place on a way from which on it is as near to its end as is near enough."""
    away = np.flatnonzero(np.linalg.norm(way_m - way_m[-1], axis=1) > NEAR_M)
    return int(away[-1]) + 1 if len(away) else 0


LEVEL_M = 0.02
STROKE_M = 0.04


def strokes(
    actions: Float[np.ndarray, "n a"], tool_m: Float[np.ndarray, "n 3"], following: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " m"]:
    """Frames at which a motion towards one keyframe turns a corner, down low: it came down to go along, as one that
    pushes something does, or rises after it has.

    Low is what is within ``LEVEL_M`` of its lowest point, and along is where it is told to go, ``STROKE_M`` or more:
    disturbances are not. ``actions`` begin with metres along x, y and z.
    """
    found: list[int] = []
    begins = np.flatnonzero(np.append(True, following[1:] != following[:-1]))
    for start, end in zip(begins.tolist(), following[begins].tolist(), strict=True):
        height_m = tool_m[start : end + 1, 2]
        low = np.flatnonzero(height_m < height_m.min() + LEVEL_M) + start
        for run in np.split(low, np.flatnonzero(np.diff(low) > 1) + 1):
            first = int(run[0])
            last = int(run[np.linalg.norm(tool_m[run] - tool_m[first], axis=1).argmax()])  # before it draws back
            if np.linalg.norm(actions[first:last, :2].sum(axis=0)) < STROKE_M:
                continue
            if _off_line_m(tool_m[first], tool_m[start], tool_m[last]) >= RISE_M:
                found.append(first)
            if _off_line_m(tool_m[last], tool_m[first], tool_m[end]) >= RISE_M:
                found.append(last)
    return np.array(found, dtype=np.int64)


def _off_line_m(
    point_m: Float[np.ndarray, " 3"], start_m: Float[np.ndarray, " 3"], end_m: Float[np.ndarray, " 3"]
) -> float:
    """How far a point is from a line between two others."""
    way, off = end_m - start_m, point_m - start_m
    share = np.clip(off @ way / max(float(way @ way), 1e-12), 0, 1)
    return float(np.linalg.norm(off - share * way))


def _gripper_changes(actions: Float[np.ndarray, "n a"], embodiment: EmbodimentSpec) -> Bool[np.ndarray, " m"]:
    """Whether any gripper command of frame i + 1 lies on the other side of its range's middle than that of frame i."""
    changed = np.zeros(len(actions) - 1, bool)
    for index, dim in enumerate(embodiment.action):
        if dim.frame == GRIPPER_FRAME:
            closed = actions[:, index] > (dim.low + dim.high) / 2
            changed |= closed[1:] != closed[:-1]
    return changed

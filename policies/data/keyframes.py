"""Keyframes of demonstrations: where a motion ends and another begins."""

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


def _gripper_changes(actions: Float[np.ndarray, "n a"], embodiment: EmbodimentSpec) -> Bool[np.ndarray, " m"]:
    """Whether any gripper command of frame i + 1 lies on the other side of its range's middle than that of frame i."""
    changed = np.zeros(len(actions) - 1, bool)
    for index, dim in enumerate(embodiment.action):
        if dim.frame == GRIPPER_FRAME:
            closed = actions[:, index] > (dim.low + dim.high) / 2
            changed |= closed[1:] != closed[:-1]
    return changed

"""Frames that are missing, by jumps of the arm, and by time stamps where the store has them."""

from collections.abc import Iterator

import numpy as np

from policies.data.checks.digest import Recording
from policies.data.checks.finding import LEAVE_OUT, Finding

JUMP, SPIKE = 3.25, 2.0
"""So many times as far as the arm usually gets at most, and as in the steps before and after, is a step that jumps.
Fingers that slip off a door's handle jump 2.8 times as far in a clean episode."""
GAP = 1.5
"""Periods after which the next frame is late."""
DRIFT = 0.02
"""Of the control rate."""


def dropped_frames(recording: Recording) -> Iterator[Finding]:
    """Single steps in which the arm gets so far that others must lie between."""
    for episode, motion in zip(recording.episodes, recording.motion, strict=True):
        padded = np.concatenate([[0.0], motion, [0.0]])
        beside = np.maximum(padded[:-2], padded[2:])
        for step in np.flatnonzero((motion > JUMP) & (motion > SPIKE * beside)):
            yield Finding(
                check="dropped frames",
                severity="error",
                episode=episode.number,
                frame=int(step) + 1,
                what=f"the arm jumps: this step is {motion[step]:.1f} times as far as its usual fastest",
                remedy=LEAVE_OUT + ", or find out what held the recorder up",
            )


def drifting_clock(recording: Recording) -> Iterator[Finding]:
    """Time stamps that stand still or go back, leave gaps, or run at another rate than the robot's."""
    period_s = 1 / recording.robot.control_rate_hz
    for episode in recording.episodes:
        if episode.times_s is None or len(episode) < 2:
            continue
        steps_s = np.diff(episode.times_s)
        rate_hz = (len(episode) - 1) / max(float(np.median(steps_s) * (len(episode) - 1)), 1e-9)
        if (back := np.flatnonzero(steps_s <= 0)).size:
            frame, what = int(back[0]) + 1, f"time stamps do not rise ({steps_s[back[0]]:.4g} s)"
        elif abs(rate_hz * period_s - 1) > DRIFT:
            said = f"the robot's rate is {1 / period_s:g}"
            frame, what = None, f"frames come at {rate_hz:.2f} Hz by their time stamps, {said}"
        elif (late := np.flatnonzero(steps_s > GAP * period_s)).size:
            longest = late[steps_s[late].argmax()]
            what = f"{len(late)} frames come late, one {steps_s[longest] / period_s:.1f} periods after the one before"
            frame = int(longest) + 1
        else:
            continue
        yield Finding(
            check="drifting clock",
            severity="error" if frame is None else "warning",
            episode=episode.number,
            frame=frame,
            what=what,
            remedy="say the true rate, or resample the episode; " + LEAVE_OUT,
        )

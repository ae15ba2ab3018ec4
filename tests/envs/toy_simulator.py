"""Another project's simulator in small: a point that is pushed along, and that breaks when it is told to.

It is run by a Python without any package of ours. ``fault`` is what happens to the episode of seed 13 in its third step
and how often: in the processes that find less than ``times`` marks in ``marks``.
"""

import os
import signal
import time
from pathlib import Path

import numpy as np

UNLUCKY, WHEN = 13, 3


class Point:
    def __init__(self, side_px=4, goal=1.0, fault="none", times=1, marks="", slow_s=0.0):
        self.side_px, self.goal_at, self.fault, self.times, self.marks = side_px, goal, fault, times, marks
        self.slow_s = slow_s
        self.instruction = self.goal = ""

    def reset(self, stream, seed):
        self.stream, self.seed, self.taken, self.noise = stream, seed, 0, 0.0
        self.at = np.random.default_rng([len(stream), seed]).uniform(-0.5, 0.0, 2)
        self.instruction, self.goal = f"push to {self.goal_at} ({seed})", f"at {self.goal_at}"

    def step(self, action):
        self.taken += 1
        self.at = self.at + np.asarray(action)
        time.sleep(self.slow_s)
        if self.seed == UNLUCKY and self.taken == WHEN and self.fault not in ("none", "killed when asked"):
            self.break_down()
        solved = bool(self.at[0] >= self.goal_at)
        return float(self.at[0]) + self.noise, bool(self.at[0] < -2), solved

    def expert_action(self):
        if self.seed == UNLUCKY and self.fault == "killed when asked":
            self.break_down()
        return np.array([self.goal_at - self.at[0], 0.0]) / 4

    def break_down(self):
        marks = list(Path(self.marks).iterdir())
        if len(marks) >= self.times:
            return
        (Path(self.marks) / f"{len(marks)}-{os.getpid()}").touch()
        if self.fault.startswith("killed"):
            print("about to be killed", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.fault == "hung":
            time.sleep(1e6)
        elif self.fault == "no number":
            self.at = np.full(2, np.nan)
        elif self.fault == "no reward":
            self.noise = float("nan")
        elif self.fault == "raised":
            raise ValueError("the point is tired")

    def observe(self):
        image = np.full((self.side_px, self.side_px, 3), self.taken, np.uint8)
        return {"observation.state": self.at.astype(np.float32), "observation.images.eye": image}

    def close(self):
        pass


def make_world(**settings):
    if settings.get("fault") == "unmakeable":
        raise FileNotFoundError("no such scene: table.xml")
    return Point(**settings)

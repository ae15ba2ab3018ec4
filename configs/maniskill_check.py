"""Whether every task of ManiSkill can be played here: made, reset, stepped and drawn, by the robot that it is said to
have."""

import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from configs.suite_check import FAILURES, told_shortly
from envs.simulators.maniskill import IMAGE_SIZE_PX, find_maniskill_task, make_maniskill_env, robots
from envs.specs import depth_key, image_key

_STEPS = 10
_DIMENSIONS = ("control_rate_hz", "state", "action")


@dataclass(frozen=True, kw_only=True)
class ManiSkillCheck:
    """What came of one task. ``problem`` is empty if it can be played."""

    task: str
    robot: str = ""
    made_s: float = 0.0
    reset_s: float = 0.0
    steps_per_s: float = 0.0
    picture_s: float = 0.0
    problem: str = ""


def check_maniskill_task(task: str) -> ManiSkillCheck:
    """One task; whatever goes wrong is its ``problem``."""
    robot = find_maniskill_task(task).robot
    try:
        return _checked(task, robot)
    except FAILURES as error:
        return ManiSkillCheck(task=task, robot=robot, problem=told_shortly(error))


def _checked(task: str, robot: str) -> ManiSkillCheck:
    began = time.perf_counter()
    with closing(make_maniskill_env(task, 1, stream="evaluate", workers=1, depth=True)) as env:
        made_s, began = time.perf_counter() - began, time.perf_counter()
        env.crew.reset("evaluate", {0: 0}, observe=False)
        reset_s, began = time.perf_counter() - began, time.perf_counter()
        still = torch.zeros(1, env.embodiment.action_dim)
        env.crew.step({0: still.expand(_STEPS, -1).double().numpy()}, observe=False)
        steps_per_s = _STEPS / (time.perf_counter() - began)
        env.reset([0])
        began = time.perf_counter()
        shown = env.step(still).observation
        picture_s = time.perf_counter() - began
        problem = _odd_about(env.crew.about[0], task, robot)
        for name in env.embodiment.camera_names:
            if np.ptp(shown[image_key(name)].numpy()) < 32 or not shown[depth_key(name)].any():
                problem = problem or f"pictures of {name} show nothing"
    return ManiSkillCheck(
        task=task,
        robot=robot,
        made_s=made_s,
        reset_s=reset_s,
        steps_per_s=steps_per_s,
        picture_s=picture_s,
        problem=problem,
    )


def _odd_about(about: dict[str, Any], task: str, robot: str) -> str:
    """In what the world's robot differs from what is written down of it, or its demonstrator; nothing if in nothing."""
    expected = robots()[robot]
    odd = [name for name in _DIMENSIONS if about[name] != expected[name]]
    missing = [name for name in expected["cameras"].values() if about["cameras"].get(name) != [IMAGE_SIZE_PX] * 2]
    odd += [f"cameras {', '.join(missing)}"] if missing else []
    odd += ["demonstrator"] if about["expert"] < find_maniskill_task(task).expert else []
    return f"the world's {' and '.join(odd)} is not what is written down of {robot}" if odd else ""

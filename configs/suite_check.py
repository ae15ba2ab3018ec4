"""Whether every task of LIBERO can be played here: made, put into each initial state, stepped and drawn."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from envs.simulators.libero import make_libero_env
from envs.specs import STATE_KEY, image_key

Check = TypeVar("Check")
FAILURES = (RuntimeError, ValueError, OSError)
"""What a task may fail with without ending the check of the others."""
_STEPS = 10
_UP_M = 0.02


@dataclass(frozen=True, kw_only=True)
class TaskCheck:
    """What came of one task: initial states that it was put into, and how the rest went. ``problem`` is empty if well.

    ``rose_m`` is how far the hand rose when it was told to, in ten steps.
    """

    task: str
    instruction: str = ""
    made_s: float = 0.0
    init_states: int = 0
    resets: int = 0
    reset_s: float = 0.0
    steps_per_s: float = 0.0
    rose_m: float = 0.0
    picture_s: float = 0.0
    problem: str = ""


def check_task(task: str) -> TaskCheck:
    """One task of LIBERO; whatever goes wrong is its ``problem``."""
    try:
        return _checked(task)
    except FAILURES as error:
        return TaskCheck(task=task, problem=told_shortly(error))


def beside_each_other(check: Callable[[str], Check], tasks: Sequence[str], workers: int) -> Iterator[Check]:
    """What ``check`` says of each task, ``workers`` at a time, in the order of ``tasks``."""
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(check, tasks)


def told_shortly(error: Exception) -> str:
    """What went wrong in one line: of several the first and the last."""
    lines = str(error).strip().splitlines()
    return f"{lines[0]} … {lines[-1]}" if len(lines) > 1 else str(error)


def _checked(task: str) -> TaskCheck:
    began = time.perf_counter()
    with closing(make_libero_env(task, 1, stream="evaluate", workers=1, settle_steps=0)) as env:
        made_s = time.perf_counter() - began
        count = int(env.crew.about[0]["init_states"])
        began = time.perf_counter()
        for seed in range(count):
            env.crew.reset("evaluate", {0: seed}, observe=False)
        reset_s = (time.perf_counter() - began) / count
        before = env.reset([0])
        rising = torch.zeros(1, _STEPS, env.embodiment.action_dim)
        rising[..., 2] = _UP_M
        began = time.perf_counter()
        env.crew.step({0: rising[0].double().numpy()}, observe=False)
        steps_per_s = _STEPS / (time.perf_counter() - began)
        began = time.perf_counter()
        after = env.step(torch.zeros(1, env.embodiment.action_dim)).observation
        picture_s = time.perf_counter() - began
        rose_m = float(after[STATE_KEY][0, 2] - before[STATE_KEY][0, 2])
        blank = [name for name in env.embodiment.camera_names if np.ptp(after[image_key(name)].numpy()) < 32]
        problem = f"pictures of {', '.join(blank)} show nothing" if blank else ""
        if not rose_m > _UP_M:
            problem = problem or f"told to rise, the hand rose by {rose_m:.3f} m"
        return TaskCheck(
            task=task,
            instruction=after["task"][0],
            made_s=made_s,
            init_states=count,
            resets=count,
            reset_s=reset_s,
            steps_per_s=steps_per_s,
            rose_m=rose_m,
            picture_s=picture_s,
            problem=problem,
        )

"""Environment steps per second of other projects' suites: in their authors' own hands, and as suites of this stack.

    vla bench suites [--tasks robosuite/Lift metaworld-mt10/push] [--image-px 84] [--turns 3]

For each task whose simulator is installed, one world at a time: *state* takes control steps with numbers alone, *RGB*
draws two cameras after every step. ``stock`` is the simulator's own environment with its own renderer; ``ours`` is the
same task through ``make_env`` with stock pictures, ``ours, fast`` with the render profile fast (other pictures).
``chunks of 10`` steps ten actions before it looks. Actions are uniformly random, and episodes start anew where they
end; the seconds of a reset are a column of their own. Each row is measured in a process of its own, and all take turns.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from report import home_path, machine, natural, print_table, write_json

from configs.environments import expand_tasks, make_env
from configs.terminal import ending_with_the_reader
from configs.worlds import EnvConfig
from envs.simulators import find_simulated
from envs.simulators.vector import SimulatorEnv
from vla.strict_json import strict_json

TASKS = ("robosuite/Lift", "metaworld-mt10/push")
CHUNK = 10
Steps = Callable[[], int]
"""Takes some environment steps, and says how many."""
WAYS = {
    "state": ("stock", "ours"),
    "RGB": ("stock", "ours", "ours, fast", f"ours, chunks of {CHUNK}"),
}
"""What is measured, and in whose hands."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tasks", nargs="+", default=list(TASKS), help="tasks of other projects' simulators, or suites"
    )
    parser.add_argument("--image-px", type=natural, default=84)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each row is timed in each turn, at least")
    parser.add_argument("--turns", type=natural, default=3)
    parser.add_argument("--json", type=home_path, help="also write the figures here")
    parser.add_argument("--row", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(strict_json(measure(**arguments.row)))
        return
    rows: list[dict[str, Any]] = []
    for task in expand_tasks(arguments.tasks):
        suite, _ = find_simulated(task)
        if not suite.installed:
            print(f"{task} is left out: pip install 'vla-stack[{suite.extra}]'")
            continue
        rows += compared(task, arguments.image_px, arguments.seconds, arguments.turns)
        print_table(rows)
        print()
    print(f"{machine()}\n")
    if arguments.json:
        write_json(arguments.json, "suites", {"rows": rows}, seeds=[0])


def compared(task: str, image_px: int, seconds: float, turns: int) -> list[dict[str, Any]]:
    """A row for each way of stepping the task; all take turns, and the median counts."""
    ways = [(kind, who) for kind, hands in WAYS.items() for who in hands]
    found: dict[tuple[str, str], list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(turns):
        for kind, who in ways:
            row = {"task": task, "kind": kind, "who": who, "image_px": image_px, "seconds": seconds}
            found[kind, who].append(in_a_process(row))
    rates = {way: [each["rate"] for each in measured] for way, measured in found.items()}
    return [
        {
            "task": task,
            "what": kind if kind == "state" else f"{kind} {image_px} px x 2",
            "who": who,
            "steps/s": median(rates[kind, who]),
            "least": min(rates[kind, who]),
            "most": max(rates[kind, who]),
            "of stock": f"{median(rates[kind, who]) / median(rates[kind, 'stock']):.2f}",
            "reset s": median([each["reset_s"] for each in found[kind, who]]),
        }
        for kind, who in ways
    ]


def in_a_process(row: dict[str, Any]) -> dict[str, float]:
    """What :func:`measure` finds, in a process of its own: renderers of several simulators share no context."""
    command = [sys.executable, __file__, "--row", strict_json(row)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def measure(task: str, kind: str, who: str, image_px: int, seconds: float) -> dict[str, float]:
    """Steps per second and the seconds of a reset, of one task in somebody's hands."""
    torch.set_num_threads(1)
    if who == "stock":
        steps, reset_s = stock(task, image_px if kind == "RGB" else 0)
    else:
        config = EnvConfig(image_size_px=image_px, suite_profile="fast" if "fast" in who else "stock")
        steps, reset_s = ours(task, config, kind == "RGB", CHUNK if "chunks" in who else 1)
    return {"rate": rate(steps, seconds), "reset_s": reset_s}


def rate(steps: Steps, seconds: float) -> float:
    """Environment steps per second, resets left out."""
    steps()
    began, taken = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        taken += steps()
    return taken / (time.perf_counter() - began)


def ours(task: str, config: EnvConfig, render: bool, chunk: int) -> tuple[Steps, float]:
    """Chunks of random actions in one of our worlds, and the seconds of a reset."""
    env = make_env(task, 1, stream="learn", config=config, render=render)
    assert isinstance(env, SimulatorEnv)
    low, high = (torch.tensor(side) for side in (env.embodiment.action_low, env.embodiment.action_high))
    draws = torch.Generator().manual_seed(0)
    env.reset([0])
    began = time.perf_counter()
    env.reset([0])
    reset_s = time.perf_counter() - began

    def steps() -> int:
        moved = env.step_chunk(low + (high - low) * torch.rand(1, chunk, len(low), generator=draws))
        if moved.ended:
            env.reset([0])
        return int(moved.steps)

    return steps, reset_s


def stock(task: str, image_px: int) -> tuple[Steps, float]:
    """The same in the simulator's own environment; without pictures if ``image_px`` is 0."""
    made = {"robosuite": _stock_robosuite, "metaworld": _stock_metaworld}[find_simulated(task)[0].module]
    reset, step, size = made(find_simulated(task)[1].there, image_px)
    draws = np.random.default_rng(0)
    reset()
    began = time.perf_counter()
    reset()
    reset_s = time.perf_counter() - began

    def steps() -> int:
        if step(draws.uniform(-1, 1, size)):
            reset()
        return 1

    return steps, reset_s


def _stock_robosuite(name: str, image_px: int) -> tuple[Callable[[], Any], Callable[[np.ndarray], bool], int]:
    import robosuite

    cameras: dict[str, Any] = {"use_camera_obs": False, "has_offscreen_renderer": False}
    if image_px:
        cameras = {
            "camera_names": ["agentview", "robot0_eye_in_hand"],
            "camera_heights": image_px,
            "camera_widths": image_px,
        }
    env = robosuite.make(name, robots="Panda", renderer="mujoco", reward_shaping=True, horizon=400, **cameras)
    return env.reset, lambda action: bool(env.step(action)[2] or env._check_success()), env.action_dim


def _stock_metaworld(name: str, image_px: int) -> tuple[Callable[[], Any], Callable[[np.ndarray], bool], int]:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    size = {"render_mode": "rgb_array", "width": image_px, "height": image_px} if image_px else {}
    env: Any = ALL_V3_ENVIRONMENTS[name](**({"camera_name": "corner2"} | size if size else {}))
    env._partially_observable, env._freeze_rand_vec, env._set_task_called = False, False, True
    vars(env).pop("sawyer_observation_space", None)

    def step(action: np.ndarray) -> bool:
        *_, truncated, info = env.step(action.astype(np.float32))
        if image_px:
            for camera in (env.model.camera("corner2").id, env.model.camera("gripperPOV").id):
                env.mujoco_renderer.camera_id = camera
                env.render()
        return bool(truncated or info["success"])

    return env.reset, step, 4


if __name__ == "__main__":
    with ending_with_the_reader():
        main()

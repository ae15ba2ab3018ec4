"""Environment steps per second of other projects' suites: in their authors' own hands, and as suites of this stack.

    vla bench suites [--tasks robosuite/Lift metaworld-mt10/push] [--image-px 84] [--seconds 4] [--json PATH]

For each task whose simulator is installed, one world at a time: *state* takes control steps with numbers alone, *RGB*
draws two cameras after every step. ``stock`` is the simulator's own environment with its own renderer; ``ours`` is the
same task through ``make_env`` with stock pictures, ``ours, fast`` with the render profile fast (other pictures).
``chunks of 10`` steps ten actions before it looks. Actions are uniformly random, and episodes start anew where they
end; the seconds of a reset are a column of their own. What is compared is measured in turns, within one process.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from report import home_path, machine, natural, print_table, write_json

from configs.environments import EnvConfig, expand_tasks, make_env
from configs.terminal import ending_with_the_reader
from envs.simulators import find_simulated
from envs.simulators.vector import SimulatorEnv

TASKS = ("robosuite/Lift", "metaworld-mt10/push")
CHUNK = 10
TURNS = 3
Steps = Callable[[], int]
"""Takes some environment steps, and says how many."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tasks", nargs="+", default=list(TASKS), help="tasks of other projects' simulators, or suites"
    )
    parser.add_argument("--image-px", type=natural, default=84)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each row is timed in each turn, at least")
    parser.add_argument("--json", type=home_path, help="also write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for task in expand_tasks(arguments.tasks):
        suite, _ = find_simulated(task)
        if not suite.installed:
            print(f"{task} is left out: pip install 'vla-stack[{suite.extra}]'")
            continue
        rows += measured(task, arguments.image_px, arguments.seconds)
        print_table(rows)
        print()
    print(f"{machine()}\n")
    if arguments.json:
        write_json(arguments.json, "suites", {"rows": rows}, seeds=[0])


def measured(task: str, image_px: int, seconds: float) -> list[dict[str, Any]]:
    """A row for each way of stepping the task; every way is timed in each of a few turns, and the median counts."""
    ways: dict[tuple[str, str], tuple[Steps, float]] = {}
    for pictures in (False, True):
        kind = f"RGB {image_px} px x 2" if pictures else "state"
        ways[kind, "stock"] = stock(task, image_px if pictures else 0)
        for who, config in (("ours", EnvConfig(image_size_px=image_px)), ("ours, fast", fast(image_px))):
            if pictures or who == "ours":
                ways[kind, who] = ours(task, config, pictures, 1)
        if pictures:
            ways[kind, f"ours, chunks of {CHUNK}"] = ours(task, EnvConfig(image_size_px=image_px), True, CHUNK)
    rates: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for _ in range(TURNS):
        for way, (steps, _) in ways.items():
            rates[way].append(rate(steps, seconds))
    middle = {way: float(np.median(found)) for way, found in rates.items()}
    return [
        {
            "task": task,
            "what": kind,
            "who": who,
            "steps/s": middle[kind, who],
            "least": min(rates[kind, who]),
            "most": max(rates[kind, who]),
            "of stock": f"{middle[kind, who] / middle[kind, 'stock']:.2f}",
            "reset s": ways[kind, who][1],
        }
        for kind, who in ways
    ]


def fast(image_px: int) -> EnvConfig:
    return EnvConfig(image_size_px=image_px, suite_profile="fast")


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

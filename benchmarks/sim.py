"""Simulation speed and memory, with and without pictures, beside robosuite, Fetch and Meta-World in the same run.

    vla bench sim --engine cpu [--worlds 1 64 512 4096] [--tasks reach sort] [--what state episodes] [--seconds 4]
                  [--checkout FOLDER] [--no-peers] [--json PATH]

*physics* steps the engine alone (5 ms each here); an *environment step* (``state``) is a control step of 20 Hz (10
physics steps here, 25 in robosuite, 20 in Fetch, 5 in Meta-World) with state and reward; *episodes* are such steps with
episodes of their real length that end and start anew; *RGB-D* adds colour and depth of two cameras after every
environment step (Fetch and Meta-World: one camera, colour alone); *frames* are the pictures (one camera's colour and
depth) that rendering alone makes per second; *reset* starts one of the worlds anew, *samples* are tables drawn for all
worlds at once, in worlds per second. Actions are uniformly random. Every row is measured in a process of its own, whose
peak of resident memory is given, with what is taken of the GPU's memory, by whomever, at the end. ``reach`` is light in
contacts, ``sort`` is rich. ``ours_over_this`` compares the best of our rows of the same kind and size. ``--checkout``
measures another checkout of this project beside this one, row by row: what was, and what is.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from peers import PEERS
from report import home_path, known_task, machine, natural, print_table, write_json

from configs.machine import check_device
from configs.terminal import ending_with_the_reader
from envs.autoreset import AutoresetEnv
from envs.random import EpisodeRandom
from envs.vector import TaskEnv
from vla.strict_json import strict_json

SIZES_PX = (84, 128)
KINDS: dict[str, tuple[int | None, ...]] = {
    "physics": (None,),
    "state": (None,),
    "episodes": (None,),
    "reset": (None,),
    "samples": (None,),
    "RGB-D": SIZES_PX,
    "frames": (128,),
}
"""What is measured, and at which picture sizes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("cpu", "warp"), default="cpu")
    parser.add_argument("--device", help="where the warp engine runs; a GPU if there is one")
    parser.add_argument("--tasks", type=known_task, nargs="+", default=["reach", "sort"])
    parser.add_argument("--worlds", type=natural, nargs="+", default=[1, 64, 512, 4096])
    parser.add_argument("--what", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument(
        "--checkout", type=home_path, help="another checkout of this project to measure beside this one"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each row is timed, at least")
    parser.add_argument("--no-peers", action="store_true", help="leave the other simulators out")
    parser.add_argument("--json", type=home_path, help="also write the figures here")
    parser.add_argument("--row", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(strict_json(measure(**arguments.row)))
        return
    if arguments.device and arguments.engine != "warp":
        parser.error("--device is for --engine warp")
    try:
        check_device(arguments.device or "cpu")
    except ValueError as error:
        parser.error(f"--device: {error}")
    rows = []
    for row in planned(arguments):
        rows.append(in_a_process(row))
        print_table(rows[-1:])
    compare(rows)
    print(f"\n{machine()}\n")
    print_table(rows)
    if arguments.json:
        write_json(arguments.json, "sim", {"rows": rows}, seeds=[0])


def planned(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """What each row measures."""
    common = {"seconds": arguments.seconds}
    rows: list[dict[str, Any]] = [
        {
            **common,
            "stack": arguments.engine,
            "device": arguments.device,
            "checkout": str(checkout.resolve()) if checkout else None,
            "task": task,
            "what": what,
            "size_px": size,
            "worlds": n,
        }
        for task in arguments.tasks
        for what in arguments.what
        for size in KINDS[what]
        for n in arguments.worlds
        for checkout in ((arguments.checkout, None) if arguments.checkout else (None,))
    ]
    if not arguments.no_peers:
        rows += [
            {**common, "stack": peer, "what": "state" if size is None else "RGB-D", "size_px": size, "worlds": 1}
            for peer in PEERS
            for size in (None, *SIZES_PX)
        ]
    return rows


def compare(rows: list[dict[str, Any]]) -> None:
    """How many times faster our best row is than each peer's row of the same kind and size."""
    for row in rows:
        same = [r["per_s"] for r in rows if "task" in r and "per_s" in r and kind(r) == kind(row)]
        if "task" not in row and "per_s" in row and same:
            row["ours_over_this"] = round(max(same) / row["per_s"], 1)


def kind(row: dict[str, Any]) -> tuple[Any, ...]:
    """What may be compared."""
    return row["what"], row["size_px"]


def in_a_process(row: dict[str, Any]) -> dict[str, Any]:
    """Measure ``row`` in a fresh interpreter; a row that fails says why and the rest goes on."""
    checkout = row.get("checkout")
    command = [sys.executable, __file__, "--row", strict_json({k: v for k, v in row.items() if k != "checkout"})]
    headless = {"MUJOCO_GL": "egl", **os.environ, **({"PYTHONPATH": checkout} if checkout else {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=headless)
    shown = {key: value for key, value in row.items() if key not in ("seconds", "device", "checkout")}
    shown |= {"checkout": "other" if checkout else "this"} if "checkout" in row else {}
    if done.returncode:
        return {**shown, "failed": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:60]}
    return {**shown, **json.loads(done.stdout.strip().splitlines()[-1])}


def measure(stack: str, what: str, size_px: int | None, worlds: int, seconds: float, **ours: Any) -> dict[str, Any]:
    """What is done per second, seconds until the first call was over, and memory in GiB."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    if stack in PEERS:
        step, per_call = PEERS[stack](size_px), 1
    else:
        step, per_call = our_step(stack, what, size_px, worlds, **ours)
    step()
    ready_s = time.perf_counter() - began
    per_s = per_call * rate(step, seconds)
    memory_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    gpu = {}
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        gpu = {"gpu_gib": round((total - free) / 2**30, 2)}
    return {"per_s": round(per_s, 1), "ready_s": round(ready_s, 1), "memory_gib": round(memory_gib, 2), **gpu}


def our_step(
    engine: str, what: str, size_px: int | None, worlds: int, task: str, device: str | None
) -> tuple[Callable[[], None], int]:
    """One call of what is measured, and how many steps or pictures it makes."""
    pictures = {"image_size_px": (size_px, size_px), "depth": True} if size_px else {"render": False}
    place = {"device": device} if engine == "warp" else {}
    endless = {} if what == "episodes" else {"max_episode_steps": 10**9}
    env = TaskEnv(task, worlds, engine=engine, **endless, **place, **pictures)
    bounds = env.embodiment.action_low, env.embodiment.action_high
    low, high = (torch.tensor(side, device=env.device) for side in bounds)
    generator = torch.Generator(env.device).manual_seed(0)
    env.reset(list(range(worlds)))
    everywhere = torch.ones(worlds, dtype=torch.bool, device=env.device)

    def actions() -> torch.Tensor:
        return low + (high - low) * torch.rand(worlds, len(low), generator=generator, device=env.device)

    if what == "physics":
        substeps = 10
        command = env.world.command
        return lambda: finish(env.world.step(command, substeps, everywhere)), worlds * substeps
    if what == "frames":
        env.step(actions())
        return lambda: finish(env.world.render(everywhere)), worlds * len(env.embodiment.cameras)
    if what == "episodes":
        learner = AutoresetEnv(env)
        learner.reset(0)
        return lambda: finish(learner.step(actions())), worlds
    if what == "reset":
        seeds, one = torch.arange(worlds, device=env.device), torch.arange(worlds) == worlds // 2
        return lambda: finish(env.reset(seeds, one)), 1
    if what == "samples":
        random = EpisodeRandom(torch.arange(worlds, device=env.device))
        return lambda: finish(env.task.sample(random)), worlds
    return lambda: finish(env.step(actions())), worlds


def finish(result: object) -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rate(step: Callable[[], None], seconds: float) -> float:
    """Calls per second."""
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or not calls:
        step()
        calls += 1
    return calls / elapsed


if __name__ == "__main__":
    with ending_with_the_reader():
        main()

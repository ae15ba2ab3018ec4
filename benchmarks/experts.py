"""Success of the scripted experts on both engines, same seeds, with intervals and a test for different behaviour.

    vla bench experts [--tasks reach tabletop-long] [--robot panda] [--episodes 200] [--engines cpu warp] [--json PATH]

``steps p`` is the p-value of a two-sample Kolmogorov–Smirnov test of the episodes' lengths on the two engines: contacts
drift apart between engines, and a small value would say that the tasks themselves have become different ones.
"""

import argparse
import time
from typing import Any

import torch
from report import home_path, known_task, natural, print_table, write_json
from scipy.stats import ks_2samp

from configs.terminal import ending_with_the_reader
from envs.engines import ENGINES
from envs.robots import ROBOTS, make_robot
from envs.suites import task_names
from envs.tasks import TASKS
from envs.vector import TaskEnv
from policies.intervals import wilson


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=known_task, nargs="+", default=list(TASKS), help="tasks or suites")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--robot", default="panda", choices=list(ROBOTS))
    parser.add_argument("--episodes", type=natural, default=200)
    parser.add_argument("--json", type=home_path, help="also write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for task in task_names(arguments.tasks):
        runs = {engine: run(task, engine, arguments.robot, arguments.episodes) for engine in arguments.engines}
        found = [row(task, engine, *runs[engine]) for engine in runs]
        if len(runs) == 2:
            lengths = [steps for _, steps, _ in runs.values()]
            found[-1]["steps p"] = float(ks_2samp(*lengths).pvalue)
        rows += found
        print_table(found)
    print()
    print_table(rows)
    if arguments.json:
        write_json(arguments.json, "experts", {"rows": rows}, seeds=range(arguments.episodes))


def run(task: str, engine: Any, robot: str, episodes: int) -> tuple[list[bool], list[int], float]:
    """Success and length of one episode per seed of the stream "demonstrate", and the seconds that took."""
    env = TaskEnv(task, episodes, engine=engine, arm=make_robot(robot), render=False)
    env.reset(list(range(episodes)))
    began, running = time.perf_counter(), episodes
    lengths = torch.zeros(episodes, dtype=torch.long, device=env.device)
    while running:
        last = env.step(env.expert_action())
        lengths += last.steps
        running -= len(last.ended)
    seconds = time.perf_counter() - began
    env.close()
    return last.success.tolist(), lengths.tolist(), seconds


def row(task: str, engine: str, success: list[bool], steps: list[int], seconds: float) -> dict[str, Any]:
    rate = wilson(sum(success), len(success))
    return {
        "task": task,
        "engine": engine,
        "success": f"{sum(success)}/{len(success)}",
        "95 % interval": f"{rate.lo:.1%} … {rate.hi:.1%}",
        "mean steps": sum(steps) / len(steps),
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    with ending_with_the_reader():
        main()

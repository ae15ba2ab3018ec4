"""Control steps per second of LIBERO: its own environment, our world in the same process, and behind workers.

Both cameras draw 256 px after every chunk of so many steps, and LIBERO's own environment at every step. All take turns,
and a row is the median of the rounds: other work on the machine meets all of them. ``of in process`` compares with our
world in LIBERO's own Python, round by round.
"""

import argparse
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import torch
from report import home_path, natural, print_table, write_json

from configs.terminal import ending_with_the_reader
from envs.simulators.crew_env import CrewEnv
from envs.simulators.libero import check_libero, find_libero_task, libero_simulator, make_libero_env
from envs.simulators.process import PACKAGE

SEED = 0
WITHIN = "in process"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="libero-goal/7", help="the task that is stepped")
    parser.add_argument("--rounds", type=natural, default=5, help="turns of each")
    parser.add_argument("--steps", type=natural, default=20, help="control steps of each world in a turn")
    parser.add_argument("--horizons", type=natural, nargs="+", default=[1, 10], help="steps per chunk")
    parser.add_argument(
        "--json", type=home_path, help="also write the figures, with machine and versions, to this file"
    )
    options = parser.parse_args()
    with ExitStack() as stack:
        libero = stack.enter_context(Libero(options.task))
        envs = {n: stack.enter_context(closing(_env(options.task, n))) for n in (1, 2)}
        rows = [
            row
            for horizon in options.horizons
            for row in measure(libero, envs, horizon, options.rounds, max(options.steps, horizon))
        ]
    print_table(rows)
    if options.json:
        write_json(options.json, "workers", {"task": options.task, "rows": rows}, seeds=[SEED])


class Libero:
    """LIBERO in its own Python, which steps when it is told to."""

    def __init__(self, task: str) -> None:
        found, simulator = find_libero_task(task), libero_simulator(check_libero(), 120.0)
        self._process = subprocess.Popen(
            [
                *(str(simulator.python), "-I", str(Path(__file__).with_name("libero_in_process.py"))),
                *(str(PACKAGE), found.benchmark, str(found.index)),
            ],
            env={**os.environ, **simulator.variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Libero":
        while (line := self._said()) != "ready":
            if not line:
                raise RuntimeError("LIBERO has ended before it was ready; vla suite check libero says why")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def steps_per_s(self, who: str, steps: int, horizon: int) -> float:
        """Of ``ours`` or ``stock``."""
        assert self._process.stdin
        self._process.stdin.write(f"{who} {steps} {horizon}\n")
        self._process.stdin.flush()
        return steps / float(self._said())

    def _said(self) -> str:
        assert self._process.stderr
        for line in self._process.stderr:
            text = line.strip()
            if text == "ready" or text.replace(".", "").replace("e-", "").isdigit():
                return text
        return ""


def measure(
    libero: Libero, envs: dict[int, CrewEnv], horizon: int, rounds: int, steps: int
) -> list[dict[str, str | float]]:
    """One row for each way of stepping, at one length of chunks."""
    steps -= steps % horizon
    ways: dict[str, Callable[[], float]] = {
        "LIBERO's own, drawing each step": lambda: libero.steps_per_s("stock", steps, horizon),
        WITHIN: lambda: libero.steps_per_s("ours", steps, horizon),
        "1 worker": lambda: _through(envs[1], steps, horizon),
        "2 workers": lambda: _through(envs[2], steps, horizon),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            rates[name].append(way())
    return [
        {
            "stepped": name,
            "steps per picture": horizon,
            "steps per s": statistics.median(found),
            "of in process": statistics.median(a / b for a, b in zip(found, rates[WITHIN], strict=True)),
        }
        for name, found in rates.items()
    ]


def _env(task: str, worlds: int) -> CrewEnv:
    env = make_libero_env(task, worlds, stream="evaluate", workers=worlds)
    env.reset([SEED] * worlds)
    return env


def _through(env: CrewEnv, steps: int, horizon: int) -> float:
    """Control steps per second of all worlds together; their episodes start anew, untimed, where they would end."""
    if env.crew.steps.max() + steps > env.max_episode_steps:
        env.reset([SEED] * env.num_envs)
    still = torch.zeros(env.num_envs, horizon, env.embodiment.action_dim)
    began = time.perf_counter()
    for _ in range(steps // horizon):
        env.step_chunk(still)
    return env.num_envs * steps / (time.perf_counter() - began)


if __name__ == "__main__":
    with ending_with_the_reader():
        main()

"""How long a training step takes in one process and in several, with one thread and with more.

The preset nano-bridge, whose every step has the same batch however many processes share it; pictures are drawn, not
rendered. Cases take turns, and each counts by its fastest step, since other work on a machine only slows it down. A
step is timed from its batch to its weights; checkpoints are left out.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from data import Case as Pictures
from data import make_embodiment, make_episode
from report import home_path, natural, print_table, write_json

from configs.commands.train import network_config
from configs.presets import nano_bridge
from configs.terminal import ending_with_the_reader
from configs.training import Config
from envs.specs import EmbodimentSpec
from policies.data.writer import DemonstrationWriter
from policies.imitation.learner import ImitationLearner
from policies.training.processes import in_processes
from policies.training.run import denormals_flushed
from policies.training.schedule import span_at

EPISODES = 40
PICTURES = Pictures(name="2 × RGB 64 px", size_px=64)


class Case(NamedTuple):
    """One row of the table; written 2x1 for two processes of one thread each."""

    processes: int
    threads: int


class Times(NamedTuple):
    """Milliseconds per step of the first stage, which only looks, and of the last, which has all losses."""

    look_ms: float
    all_ms: float


def main() -> None:
    cores = len(os.sched_getaffinity(0))
    default = dict.fromkeys([Case(1, cores), Case(1, 1), Case(cores, 1)])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=case, nargs="+", default=list(default), help="such as 2x1: processes x threads")
    parser.add_argument("--batch", type=natural, default=64, help="rows per step, of all processes together")
    parser.add_argument("--steps", type=natural, default=10, help="per turn and stage")
    parser.add_argument("--turns", type=natural, default=5, help="per case")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="with cuda each process has its own GPU"
    )
    parser.add_argument(
        "--json", type=home_path, help="also write the figures, with machine and versions, to this file"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = make_run(Path(folder) / "store", options.batch, options.device)
        rows = measure(config, options.cases, options.turns, options.steps)
    print_table(rows)
    if options.json:
        write_json(options.json, "training", {"batch": options.batch, "rows": rows}, seeds=[config.train.seed])


def case(text: str) -> Case:
    """An option's case."""
    processes, _, threads = text.partition("x")
    return Case(natural(processes), natural(threads))


def measure(config: Config, cases: list[Case], turns: int, steps: int) -> list[dict[str, int | float]]:
    """The table: the first case is what the others are compared with."""
    best = {each: Times(float("inf"), float("inf")) for each in cases}
    for _ in range(turns):
        for each in cases:
            settings = replace(config, train=replace(config.train, processes=each.processes, threads=each.threads))
            times = in_processes(each.processes, config.train.device, time_steps, settings, steps)
            best[each] = Times(*map(min, times, best[each]))
    return [
        {
            "processes": each.processes,
            "threads each": each.threads,
            "look ms/step": round(times.look_ms, 1),
            "all ms/step": round(times.all_ms, 1),
            "look, times as fast": round(best[cases[0]].look_ms / times.look_ms, 2),
            "all, times as fast": round(best[cases[0]].all_ms / times.all_ms, 2),
        }
        for each, times in best.items()
    ]


def time_steps(config: Config, steps: int) -> Times:
    """In one of the processes; the first step of a stage is not timed."""
    torch.set_num_threads(config.train.threads)
    learner = ImitationLearner(config.train, network_config(config), config.data)
    first, last = learner.spans[0], span_at(learner.spans, config.train.steps - 1)
    with denormals_flushed():
        return Times(*(_milliseconds(learner, span.first, steps) for span in (first, last)))


def _milliseconds(learner: ImitationLearner, first: int, steps: int) -> float:
    learner.step(first)
    taken_s = []
    for step in range(first + 1, first + 1 + steps):
        began = time.perf_counter()
        learner.step(step)
        taken_s.append(time.perf_counter() - began)
    return 1e3 * min(taken_s)


def make_run(path: Path, batch_size: int, device: str) -> Config:
    """The preset on demonstrations that are drawn into ``path``."""
    embodiment = robot()
    with DemonstrationWriter.create(path, embodiment) as writer:
        for index in range(EPISODES):
            writer.append(make_episode(PICTURES, embodiment, index))
    preset = nano_bridge()
    return replace(preset, data=(path,), train=replace(preset.train, batch_size=batch_size, device=device))


def robot() -> EmbodimentSpec:
    """One whose tool is at the first three numbers of the state, so that there is a waypoint to look for."""
    drawn = make_embodiment(PICTURES)
    state = [replace(dim, frame="world" if index < 3 else "joint") for index, dim in enumerate(drawn.state)]
    return replace(drawn, state=tuple(state))


if __name__ == "__main__":
    with ending_with_the_reader():
        main()

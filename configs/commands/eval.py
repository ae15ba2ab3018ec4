"""Evaluate a checkpoint, a policy server or the scripted expert on unseen episodes, with intervals and a report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from configs.acting import EXPERT, Actor
from configs.environments import EVALUATION_SEEDS, EnvConfig, Split, check_tasks, episode_seeds
from configs.run_directory import OUTPUTS, create_run_directory, write_json

if TYPE_CHECKING:
    from policies.evaluation import EvaluationResult, Instructions

RESULTS_FILE = "results.json"
REPORT_FILE = "report.html"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Whom to evaluate, on what, and how often."""

    policy: Annotated[str, tyro.conf.Positional]
    """A run's folder, a checkpoint in it, a server's address (ws://host:port), or expert."""
    tasks: tuple[str, ...] = ("reach", "pick", "place")
    """Tasks to evaluate on, one after the other."""
    episodes: int = 50
    """Episodes per task, one per seed."""
    first_seed: int = 0
    """Which of the evaluation seeds to begin with; none of them is ever used to record demonstrations."""
    split: Split = "held_out"
    """Phrasings of the instructions: those of the demonstrations, or held-out ones."""
    instructions: Literal["given", "shuffled", "both"] = "given"
    """shuffled hands every episode another one's instruction: a policy that heeds language falls to chance."""
    num_envs: int = 25
    """Worlds stepped at once; it changes the speed and no result."""
    videos: int = 6
    """Episodes per task to show in the report."""
    device: str = "cpu"
    """Where the network runs, such as cpu or cuda."""
    threads: int = 0
    """Threads for the network on the CPU; 0 leaves torch's choice."""
    replan_interval: int | None = None
    """Actions to execute before the policy looks again; its own choice by default."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The simulated worlds; a policy decides itself what its cameras must look like."""
    outputs: Path = OUTPUTS
    """Folder that holds the runs."""


def run(config: Config) -> int:
    """Evaluate, print a table, and leave ``results.json`` and ``report.html`` in a new run directory."""
    check_tasks(config.tasks)
    seeds = episode_seeds(EVALUATION_SEEDS, config.first_seed, config.episodes)
    actor = Actor(
        config.policy,
        config.env,
        device=config.device,
        threads=config.threads,
        replan_interval=config.replan_interval,
    )
    name = EXPERT if actor.is_expert else Path(config.policy.rstrip("/")).name
    run_dir = create_run_directory("eval", name, config, config.outputs)
    results = evaluate_tasks(actor, config, seeds)
    write_json([result.to_dict() for result in results], run_dir / RESULTS_FILE)
    _report(config, results, run_dir)
    print_table(results)
    print(f"\nreport: {run_dir / REPORT_FILE}")
    return 0


def evaluate_tasks(actor: Actor, config: Config, seeds: Sequence[int]) -> "list[EvaluationResult]":
    """One result per task and kind of instruction."""
    from policies.evaluation import evaluate

    kinds: list[Instructions] = ["given", "shuffled"] if config.instructions == "both" else [config.instructions]
    results = []
    for task in config.tasks:
        env, policy = actor.enter(task, min(config.num_envs, len(seeds)), config.split)
        try:
            for kind in kinds:
                videos = config.videos if kind == kinds[0] else 0
                results.append(evaluate(env, policy, seeds, instructions=kind, record_videos=videos))
        finally:
            env.close()
    return results


def print_table(results: "Sequence[EvaluationResult]") -> None:
    """Success with its interval, one row per result."""
    from rich.console import Console
    from rich.table import Table

    table = Table("task", "instructions", "success", "95 % interval", "episodes", box=None, header_style="bold")
    for result in results:
        rate = result.success
        interval = f"{rate.lo:.1%} … {rate.hi:.1%}"
        table.add_row(result.task, result.instructions, f"{rate.value:.1%}", interval, str(len(result.episodes)))
    Console().print(table)


def _report(config: Config, results: "Sequence[EvaluationResult]", run_dir: Path) -> None:
    from configs.machine import describe_run
    from configs.report.document import FactsSection, SettingsSection, SuccessSection, VideosSection, write_report
    from configs.report.results import success_bar, videos_of
    from configs.serialization import to_json

    first, last = EVALUATION_SEEDS[config.first_seed], EVALUATION_SEEDS[config.first_seed + config.episodes - 1]
    write_report(
        run_dir / REPORT_FILE,
        f"Evaluation of {config.policy}",
        [
            SuccessSection(bars=tuple(success_bar(result, f"{result.instructions} instruction") for result in results)),
            VideosSection(videos=tuple(video for result in results for video in videos_of(result))),
            FactsSection(title="Machine and versions", facts=describe_run()),
            SettingsSection(config=to_json(config)),
        ],
        lead=f"{config.episodes} episodes per task, seeds {first} … {last}, {config.split} phrasings.",
    )

"""Evaluate a checkpoint, a policy server or the scripted expert on unseen episodes, with intervals and a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from configs.acting import EXPERT, Actor
from configs.environments import EnvConfig, Split, acts_in, axis_names, episode_seeds, expand_tasks
from configs.run_directory import OUTPUTS, create_run_directory, write_json
from policies.intervals import Interval, paired_difference, wilson

if TYPE_CHECKING:
    from rich.console import Console

    from policies.evaluation import EvaluationResult, Instructions

RESULTS_FILE = "results.json"
REPORT_FILE = "report.html"
UNPERTURBED = "none"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Whom to evaluate, on what, and how often."""

    policy: Annotated[str, tyro.conf.Positional]
    """A run's folder, a checkpoint in it, a server's address (ws://host:port), or expert."""
    tasks: tuple[str, ...] = ("reach", "pick", "place")
    """Tasks or suites to evaluate on, one after the other."""
    suite: str | None = None
    """A suite of ten tasks to evaluate on, instead of tasks."""
    perturb: str | None = None
    """A preset of perturbations, such as colosseum-14: every axis of it is evaluated, beside the usual worlds."""
    episodes: int = 50
    """Episodes per task, one per seed."""
    first_seed: int = 0
    """The first seed, of the stream evaluate; demonstrations are of another stream, whose episodes are all others."""
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
    config = replace(config, tasks=expand_tasks([config.suite] if config.suite else config.tasks))
    axes = _axes(config.perturb)
    seeds = episode_seeds(config.episodes, config.first_seed)
    actor = Actor(
        config.policy,
        config.env,
        device=config.device,
        threads=config.threads,
        replan_interval=config.replan_interval,
    )
    name = EXPERT if actor.is_expert else Path(config.policy.rstrip("/")).name
    run_dir = create_run_directory("eval", name, config, config.outputs)
    results = {}
    for axis in axes:
        results[axis] = evaluate_tasks(actor, config, seeds, None if axis == UNPERTURBED else axis)
        write_json(_entries(results), run_dir / RESULTS_FILE)
    _report(config, results, run_dir)
    print_table(results[UNPERTURBED])
    if config.perturb:
        print_axes(results)
    print(f"\nreport: {run_dir / REPORT_FILE}")
    return 0


def evaluate_tasks(
    actor: Actor, config: Config, seeds: Sequence[int], perturbation: str | None = None
) -> "list[EvaluationResult]":
    """One result per task and kind of instruction; tasks in which ``perturbation`` changes nothing are left out."""
    from policies.evaluation import evaluate

    kinds: list[Instructions] = ["given", "shuffled"] if config.instructions == "both" else [config.instructions]
    results = []
    for task in config.tasks:
        if perturbation is not None and not acts_in(perturbation, task):
            continue
        env, policy = actor.enter(task, min(config.num_envs, len(seeds)), config.split, perturbation)
        try:
            for kind in kinds:
                videos = config.videos if kind == kinds[0] else 0
                results.append(evaluate(env, policy, seeds, instructions=kind, record_videos=videos))
        finally:
            env.close()
    return results


def print_table(results: "Sequence[EvaluationResult]") -> None:
    """Success with its interval, one row per result; several tasks have their total in the last row."""
    from rich.table import Table

    columns = ["task", "instructions", "success", "95 % interval", "episodes"]
    staged = any(result.episodes[0].stages > 1 for result in results)
    table = Table(*columns, *(["stages done"] if staged else []), box=None, header_style="bold")
    for result in results:
        cells = [result.task, result.instructions, *_rate_cells(result.success, len(result.episodes))]
        if staged:
            cells.append(f"{result.mean_stages_done:.2f} of {result.episodes[0].stages}")
        table.add_row(*cells)
    for kind in dict.fromkeys(result.instructions for result in results):
        outcomes = _outcomes(results, kind)
        if len(results) > 1:
            table.add_row("all", kind, *_rate_cells(wilson(sum(outcomes), len(outcomes)), len(outcomes)))
    _wide_console().print(table)


def print_axes(results: "Mapping[str, Sequence[EvaluationResult]]") -> None:
    """Success under each axis over the tasks in which it acts, and the difference to the usual worlds, paired by task
    and seed.
    """
    from rich.table import Table

    table = Table("axis", "success", "95 % interval", "episodes", "change", "95 % interval", "p", box=None)
    for axis, found in results.items():
        outcomes = _outcomes(found)
        if not outcomes:
            table.add_row(axis.rpartition(":")[2], "changes nothing in these tasks")
            continue
        cells = [axis.rpartition(":")[2], *_rate_cells(wilson(sum(outcomes), len(outcomes)), len(outcomes))]
        if axis != UNPERTURBED:
            tasks = {result.task for result in found}
            change = paired_difference(outcomes, _outcomes([r for r in results[UNPERTURBED] if r.task in tasks]))
            cells += [f"{change.value:+.1%}", f"{change.lo:+.1%} … {change.hi:+.1%}", f"{change.p_value:.2g}"]
        table.add_row(*cells)
    _wide_console().print(table)


def _wide_console() -> "Console":
    """A console that does not break the lines of tables, also where the output goes to a file."""
    from rich.console import Console

    return Console(width=max(Console().width, 110))


def _axes(preset: str | None) -> tuple[str, ...]:
    """The usual worlds, then every axis of ``preset``."""
    if preset is None:
        return (UNPERTURBED,)
    return (UNPERTURBED, *axis_names(preset))


def _entries(results: "Mapping[str, Sequence[EvaluationResult]]") -> list[dict[str, Any]]:
    return [{"axis": axis, **result.to_dict()} for axis, found in results.items() for result in found]


def _outcomes(results: "Sequence[EvaluationResult]", instructions: str | None = None) -> list[bool]:
    """Success of every episode, in the order of tasks and seeds."""
    chosen = [result for result in results if instructions in (None, result.instructions)]
    return [outcome for result in chosen for outcome in result.outcomes]


def _rate_cells(rate: Interval, episodes: int) -> tuple[str, str, str]:
    return f"{rate.value:.1%}", f"{rate.lo:.1%} … {rate.hi:.1%}", str(episodes)


def _report(config: Config, results: "Mapping[str, Sequence[EvaluationResult]]", run_dir: Path) -> None:
    from configs.machine import describe_run
    from configs.report.document import FactsSection, SettingsSection, SuccessSection, VideosSection, write_report
    from configs.report.results import success_bar, videos_of
    from configs.serialization import to_json

    last_seed = config.first_seed + config.episodes - 1

    def condition(axis: str, result: "EvaluationResult") -> str:
        words = f"{result.instructions} instruction"
        return words if axis == UNPERTURBED else f"{words}, {axis}"

    bars = [success_bar(result, condition(axis, result)) for axis, found in results.items() for result in found]
    write_report(
        run_dir / REPORT_FILE,
        f"Evaluation of {config.policy}",
        [
            SuccessSection(bars=tuple(bars)),
            VideosSection(videos=tuple(video for found in results.values() for r in found for video in videos_of(r))),
            FactsSection(title="Machine and versions", facts=describe_run()),
            SettingsSection(config=to_json(config)),
        ],
        lead=f"{config.episodes} episodes per task, seeds {config.first_seed} … {last_seed} of the stream evaluate, "
        f"{config.split} phrasings.",
    )

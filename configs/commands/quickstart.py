"""The whole loop: demonstrate, train, evaluate on unseen episodes, answer on a server, and report."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.acting import EXPERT, Actor
from configs.commands import collect, train
from configs.commands import eval as evaluation
from configs.environments import ARM_START_RAD, EnvConfig, episode_seeds, expand_tasks, make_env, one_torch_thread
from configs.evaluating import evaluator_for
from configs.machine import describe_run
from configs.presets import nano_bridge
from configs.run_directory import OUTPUTS, create_run_directory, write_json
from configs.serialization import to_json
from configs.wording import sentences
from policies.collect import ExecutionNoise
from policies.serving.client import ClientConfig, PolicyClient
from policies.serving.config import ServeConfig
from vla.durable import write_atomically

if TYPE_CHECKING:
    from configs.report.charts import SuccessBar
    from configs.report.document import SuccessSection
    from policies.evaluation import EvaluationResult
    from policies.serving.rollout import EpisodeReport

SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.html"
START_AXES = tuple(f"libero-plus-7:robot_start/{level}" for level in (1, 2, 3))
"""The arm starts 0.1, 0.2, 0.3 rad from home."""
START_EPISODES = 20
"""How many episodes per task each of them is given at most."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """How much to demonstrate, train and evaluate."""

    tasks: tuple[str, ...] = ("reach", "pick", "place")
    """Tasks that one policy learns together."""
    demonstrations: int = 350
    """Expert episodes per task."""
    episodes: int = 50
    """Evaluation episodes per task, of the stream evaluate and in phrasings that no demonstration has."""
    videos: int = 6
    """Episodes per task to show in the report."""
    num_envs: int = 25
    """Worlds stepped at once; with the cpu engine it changes the speed and no result."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The simulated worlds."""
    noise: ExecutionNoise = field(default_factory=collect.recoveries)
    """Disturbance of the demonstrations' execution."""
    arm_start_rad: float = ARM_START_RAD
    """How far from home the arm starts at most in the demonstrations, in joint space (0: at home). A perturbation of
    the worlds that says where the arm starts has its way."""
    training: train.Config = field(default_factory=nano_bridge)
    """The network and its training; the data are those demonstrated here."""
    outputs: Path = OUTPUTS
    """Folder that holds the runs."""


class Stopwatch:
    """Seconds that each named phase took, and all of them since the watch was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.phases_s: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        print(f"\n── {name}")
        began = time.perf_counter()
        yield
        self.phases_s[name] = round(time.perf_counter() - began, 1)

    @property
    def wall_s(self) -> float:
        return round(time.perf_counter() - self._began, 1)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the policy and the expert did, task by task, and how the policy answered on a server.

    ``starts`` is what the policy did over all tasks when the arm started elsewhere, by axis.
    """

    given: "list[EvaluationResult]"
    shuffled: "list[EvaluationResult]"
    expert: "list[EvaluationResult]"
    starts: "dict[str, SuccessBar]"
    served: "EpisodeReport"


def run(config: Config) -> int:
    """Run every phase in a new run directory; summary and report are also left in ``outputs/quickstart/``."""
    name = "-".join(config.tasks)
    config = replace(config, tasks=expand_tasks(config.tasks))
    _check(config)
    watch = Stopwatch()
    run_dir = create_run_directory("quickstart", name, config, config.outputs)
    with watch.phase("demonstrate"):
        _demonstrate(config, run_dir / "data")
    training = replace(config.training, data=(run_dir / "data",))
    with watch.phase("train"):
        train.train_in(training, train.network_config(training), run_dir / "train", resume=False)
    with watch.phase("evaluate"):
        given, shuffled, expert = _evaluate(config, run_dir / "train")
    with watch.phase("evaluate other starts" if not config.env.perturbation else "no other starts: perturbed worlds"):
        starts = _evaluate_starts(config, run_dir / "train")
    with watch.phase("serve"):
        served = _serve_once(config, run_dir / "train")
    outcome = Outcome(given=given, shuffled=shuffled, expert=expert, starts=starts, served=served)
    summary = _summary(config, outcome, watch)
    write_json(summary, run_dir / SUMMARY_FILE)
    _report(training, outcome, watch, run_dir)
    latest = _publish(run_dir)
    _print_table(summary)
    print(f"\nreport: {latest.parent / REPORT_FILE}\nserve:  vla serve {latest / 'train'}")
    return 0


def _check(config: Config) -> None:
    """Refuse what cannot work before any of the long work."""
    from policies.evaluation import check_instructions

    episode_seeds(config.demonstrations)
    check_instructions("shuffled", len(episode_seeds(config.episodes)))
    if config.training.data:
        raise ValueError(f"the quickstart records its own demonstrations, got training.data {config.training.data}")
    if config.training.outputs != OUTPUTS:
        raise ValueError(
            f"the training is part of this run: give outputs, not training.outputs {config.training.outputs}"
        )
    if config.training.name != nano_bridge().name:
        raise ValueError(f"the run is named after its tasks: leave out training.name, got {config.training.name}")
    start_rad = config.arm_start_rad
    env = make_env(config.tasks[0], config.num_envs, stream="demonstrate", config=config.env, arm_start_rad=start_rad)
    try:
        said = [text for task in config.tasks for text in sentences(task, ("train",))]
        network = train.network_for(config.training, env.embodiment, tasks=config.tasks, instructions=said)
        train.check_start(config.training, network, env.embodiment)
        if (evaluator := evaluator_for(config.training.evaluate, env.embodiment, config.tasks)) is not None:
            evaluator.check()
    finally:
        env.close()


def _demonstrate(config: Config, path: Path) -> None:
    recording = collect.Config(
        tasks=config.tasks,
        num_envs=config.num_envs,
        noise=config.noise,
        arm_start_rad=config.arm_start_rad,
        env=config.env,
    )
    with one_torch_thread():
        collect.collect_tasks(recording, path, episode_seeds(config.demonstrations))


def _evaluate(
    config: Config, policy: Path
) -> "tuple[list[EvaluationResult], list[EvaluationResult], list[EvaluationResult]]":
    """The policy with the given and with shuffled instructions, and the expert, on the same seeds."""
    seeds = episode_seeds(config.episodes)
    settings = evaluation.Config(
        policy=str(policy),
        tasks=config.tasks,
        num_envs=config.num_envs,
        videos=config.videos,
        instructions="both",
        env=config.env,
    )
    results = evaluation.evaluate_tasks(_actor(config, policy), settings, seeds)
    by_expert = replace(settings, policy=EXPERT, instructions="given", videos=0)
    expert = evaluation.evaluate_tasks(Actor(EXPERT, config.env), by_expert, seeds)
    given = [result for result in results if result.instructions == "given"]
    shuffled = [result for result in results if result.instructions == "shuffled"]
    return given, shuffled, expert


def _evaluate_starts(config: Config, policy: Path) -> "dict[str, SuccessBar]":
    """The policy over all tasks, by how far from home the arm starts; nothing in worlds that are perturbed already."""
    from configs.report.results import pooled_bar

    if config.env.perturbation:
        return {}
    seeds = episode_seeds(min(config.episodes, START_EPISODES))
    worlds = config.num_envs
    settings = evaluation.Config(policy=str(policy), tasks=config.tasks, num_envs=worlds, videos=0, env=config.env)
    actor = _actor(config, policy)
    return {axis: pooled_bar(evaluation.evaluate_tasks(actor, settings, seeds, axis), axis) for axis in START_AXES}


def _actor(config: Config, policy: Path) -> Actor:
    return Actor(policy, config.env, device=config.training.train.device, threads=config.training.train.threads)


def _serve_once(config: Config, policy: Path) -> "EpisodeReport":
    """One episode of the last task through a policy server on a free port of this machine."""
    from policies.serving.rollout import run_episode
    from policies.serving.server import PolicyServer, running

    actor = Actor(policy, config.env, device=config.training.train.device)
    env, served = actor.enter(config.tasks[-1], 1, "held_out")
    try:
        with (
            running(PolicyServer(served, ServeConfig(port=0))) as port,
            PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}"), expected=env.embodiment) as client,
        ):
            report = run_episode(env, client, config.episodes, realtime=False, watchdog_s=30.0)
    finally:
        env.close()
    outcome = "success" if report.success else "failure"
    print(f"{report.task} through ws://127.0.0.1:{port}: {outcome}, {report.steps} steps")
    return report


def _summary(config: Config, outcome: Outcome, watch: Stopwatch) -> dict[str, Any]:
    """What ``summary.json`` holds."""
    from envs.suites import find_task

    tasks = {}
    for given, shuffled, expert in zip(outcome.given, outcome.shuffled, outcome.expert, strict=True):
        tasks[given.task] = {
            "success": given.success.value,
            "lo": given.success.lo,
            "hi": given.success.hi,
            "episodes": len(given.episodes),
            "expert_success": expert.success.value,
            "shuffled_success": shuffled.success.value,
            "shuffled_same_goal_share": shuffled.same_goal_share,
            "chance": find_task(given.task).chance,
        }
    return {
        "wall_s": watch.wall_s,
        "mean_success": sum(task["success"] for task in tasks.values()) / len(tasks),
        "tasks": tasks,
        "starts": {
            axis: {"success": bar.value, "lo": bar.lo, "hi": bar.hi, "episodes": bar.episodes}
            for axis, bar in outcome.starts.items()
        },
        "phases_s": watch.phases_s,
        "server": {"success": outcome.served.success, "round_trip_ms": outcome.served.round_trip_ms},
        "seeds": {
            "training": config.training.train.seed,
            "demonstrations": {"stream": "demonstrate", "seeds": [0, config.demonstrations - 1]},
            "evaluation": {"stream": "evaluate", "seeds": [0, config.episodes - 1]},
        },
        "machine": describe_run(),
    }


def _report(training: train.Config, outcome: Outcome, watch: Stopwatch, run_dir: Path) -> None:
    from configs.report.document import (
        CurvesSection,
        FactsSection,
        SettingsSection,
        SuccessSection,
        VideosSection,
        read_curves,
        write_report,
    )
    from configs.report.results import remarks_sections, shuffling_note, success_bar, videos_of

    labels = ("instruction given", "instruction shuffled", "scripted expert")
    bars = [
        success_bar(result, label)
        for row in zip(outcome.given, outcome.shuffled, outcome.expert, strict=True)
        for result, label in zip(row, labels, strict=True)
    ]
    episodes = len(outcome.given[0].episodes)
    sections = [
        SuccessSection(
            bars=tuple(bars),
            note=f"{episodes} episodes per task, seeds 0 … {episodes - 1} of the stream evaluate, in phrasings that no "
            f"demonstration has. {shuffling_note(outcome.shuffled)}",
        ),
        *remarks_sections(outcome.given),
        *([_starts_section(outcome)] if outcome.starts else []),
        CurvesSection(charts=read_curves(run_dir / "train")),
        VideosSection(videos=tuple(video for result in outcome.given for video in videos_of(result))),
        FactsSection(title="Time", facts={name: f"{seconds:.0f} s" for name, seconds in watch.phases_s.items()}),
        FactsSection(title="Machine and versions", facts=describe_run()),
        SettingsSection(config=to_json(training)),
    ]
    write_report(run_dir / REPORT_FILE, "Quickstart", sections, lead="One policy for every task, from demonstrations.")


def _starts_section(outcome: Outcome) -> "SuccessSection":
    from configs.report.document import SuccessSection
    from configs.report.results import pooled_bar

    return SuccessSection(
        title="Where the arm starts",
        bars=(pooled_bar(outcome.given, "at home"), *outcome.starts.values()),
        note="The instruction given; the arm starts 0.1, 0.2 and 0.3 rad from home, in a random direction in joint "
        "space.",
    )


def _publish(run_dir: Path) -> Path:
    """Copy summary and report to ``outputs/quickstart`` and point ``latest`` at the run; returns that link."""
    home = run_dir.parent.parent
    for name in (SUMMARY_FILE, REPORT_FILE):
        write_atomically(home / name, (run_dir / name).read_bytes())
    aside = home / ".latest.writing"
    aside.unlink(missing_ok=True)
    os.symlink(run_dir.relative_to(home), aside)
    return aside.replace(home / "latest")


def _print_table(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = ("task", "success", "95 % interval", "shuffled", "equal goals", "chance", "expert", "episodes")
    table = Table(*columns, box=None, header_style="bold")
    for name, task in summary["tasks"].items():
        interval = f"{task['lo']:.1%} … {task['hi']:.1%}"
        measured = ("shuffled_success", "shuffled_same_goal_share", "chance", "expert_success")
        rates = ["–" if task[key] is None else f"{task[key]:.1%}" for key in measured]
        table.add_row(name, f"{task['success']:.1%}", interval, *rates, str(task["episodes"]))
    Console().print("", table)
    starts = ", ".join(f"{start['success']:.1%}" for start in summary["starts"].values())
    away = f"; with the arm starting 0.1, 0.2, 0.3 rad away {starts}" if starts else ""
    print(f"mean success {summary['mean_success']:.1%}{away}")
    print(f"{summary['wall_s']:.0f} s in all")

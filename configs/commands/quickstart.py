"""The whole loop: demonstrate, train, evaluate on unseen episodes, answer on a server, and report."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.acting import EXPERT, Actor
from configs.commands import collect, train
from configs.commands import eval as evaluation
from configs.environments import ARM_START_RAD, acts_in, episode_seeds, expand_tasks, make_env, one_torch_thread
from configs.evaluating import evaluator_for
from configs.machine import describe_run, usable_cores
from configs.presets import nano_tabletop
from configs.run_directory import OUTPUTS, create_run_directory, write_json
from configs.serialization import to_json
from configs.side_by_side import side_by_side
from configs.wording import reworded, sentences
from configs.worlds import EnvConfig, find_perturbation
from policies.collect import ExecutionNoise
from policies.serving.client import ClientConfig, PolicyClient
from policies.serving.config import ServeConfig
from vla.durable import write_atomically

if TYPE_CHECKING:
    from configs.report.quickstart import Outcome
    from policies.collect import CollectSummary
    from policies.evaluation import EvaluationResult
    from policies.serving.rollout import EpisodeReport

    Judged = tuple[list[EvaluationResult], list[EvaluationResult], list[EvaluationResult]]
    """With given and with shuffled instructions, and the expert."""

SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.html"
USUAL, RANDOMISED = "usual", "randomised"
"""The folders of the two stores of demonstrations."""
RANDOMISED_WORLDS = "randomised:all"
RANDOMISED_SEEDS = 100_000
"""The first seed of the randomised demonstrations: those of one seed would show the same table in both stores."""
CONDITIONS = (
    "colosseum-14:all",
    "libero-plus-7:camera/3",
    "libero-plus-7:robot_start/3",
    "libero-plus-7:background/4",
    "libero-plus-7:language/4",
)
"""Looks, sizes and masses; views; starts of the arm; backgrounds; words. The third levels lie within what randomised
worlds show, the others reach beyond."""


def on_two_cores() -> train.Config:
    """From the package's policy, by two processes where there are two cores for them."""
    policy = nano_tabletop()
    return replace(policy, train=replace(policy.train, processes=min(2, usable_cores())))


@dataclass(frozen=True, kw_only=True)
class Config:
    """How much to demonstrate, train and evaluate."""

    tasks: tuple[str, ...] = ("reach", "pick", "place")
    """Tasks that one policy learns together."""
    demonstrations: int = 120
    """Expert episodes per task in the usual worlds, or in those of env."""
    randomised: int = 80
    """Expert episodes per task besides, under randomised:all: whatever a perturbation can change is changed in half of
    them, in ranges that leave out a part of what tests show. 0: none."""
    episodes: int = 50
    """Evaluation episodes per task, of the stream evaluate and in phrasings that no demonstration has."""
    conditions: tuple[str, ...] = CONDITIONS
    """Perturbations, as PRESET:AXIS, under which the policy is evaluated as well, with the instructions given."""
    condition_episodes: int = 20
    """Episodes per task under each of them, no more than there are evaluation episodes; 0: none."""
    videos: int = 6
    """Episodes per task to show in the report."""
    num_envs: int = 25
    """Worlds stepped at once; with the cpu engine it changes the speed and no result."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The simulated worlds; a perturbation of them goes with randomised 0 alone."""
    noise: ExecutionNoise = field(default_factory=collect.recoveries)
    """Disturbance of the demonstrations' execution."""
    arm_start_rad: float = ARM_START_RAD
    """How far from home the arm starts at most in the demonstrations, in joint space (0: at home). A perturbation of
    the worlds that says where the arm starts has its way, as the randomised ones do."""
    training: train.Config = field(default_factory=on_two_cores)
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


def run(config: Config) -> int:
    """Run every phase in a new run directory; summary and report are also left in ``outputs/quickstart/``."""
    name = "-".join(config.tasks)
    config = replace(config, tasks=expand_tasks(config.tasks))
    _check(config)
    from configs.report.quickstart import Outcome, print_tables

    watch = Stopwatch()
    run_dir = create_run_directory("quickstart", name, config, config.outputs)
    with watch.phase("demonstrate"):
        demonstrations = _demonstrate(config, run_dir / "data")
    training = replace(config.training, data=tuple(run_dir / "data" / store for store in demonstrations))
    with watch.phase("train"):
        train.train_in(training, train.network_config(training), run_dir / "train", resume=False)
    with watch.phase("evaluate"):
        (given, shuffled, expert), conditions = _evaluate(config, run_dir / "train")
    with watch.phase("serve"):
        served = _serve_once(config, run_dir / "train")
    outcome = Outcome(
        demonstrations=demonstrations,
        given=given,
        shuffled=shuffled,
        expert=expert,
        conditions=conditions,
        served=served,
    )
    summary = _summary(config, outcome, watch)
    write_json(summary, run_dir / SUMMARY_FILE)
    _report(training, outcome, watch, run_dir)
    latest = _publish(run_dir)
    print_tables(summary)
    print(f"{watch.wall_s:.0f} s in all\n\nreport: {latest.parent / REPORT_FILE}\nserve:  vla serve {latest / 'train'}")
    return 0


def _check(config: Config) -> None:
    """Refuse what cannot work before any of the long work."""
    from policies.evaluation import check_instructions

    _check_worlds(config)
    check_instructions("shuffled", len(episode_seeds(config.episodes)))
    if config.training.data:
        raise ValueError(f"the quickstart records its own demonstrations, got training.data {config.training.data}")
    if config.training.outputs != OUTPUTS:
        raise ValueError(
            f"the training is part of this run: give outputs, not training.outputs {config.training.outputs}"
        )
    if config.training.name != nano_tabletop().name:
        raise ValueError(f"the run is named after its tasks: leave out training.name, got {config.training.name}")
    start_rad = config.arm_start_rad
    env = make_env(config.tasks[0], config.num_envs, stream="demonstrate", config=config.env, arm_start_rad=start_rad)
    try:
        network = train.network_for(config.training, env.embodiment, tasks=config.tasks, instructions=_said(config))
        train.check_start(config.training, network, env.embodiment)
        if (evaluator := evaluator_for(config.training.evaluate, env.embodiment, config.tasks)) is not None:
            evaluator.check()
    finally:
        env.close()


def _check_worlds(config: Config) -> None:
    """``ValueError`` for demonstrations that cannot be, and for conditions that are not there or change nothing."""
    if config.demonstrations > RANDOMISED_SEEDS:
        raise ValueError(
            f"seeds from {RANDOMISED_SEEDS:,} on are those of randomised worlds: expected at most so many "
            f"demonstrations per task, got {config.demonstrations:,}"
        )
    for name in ("randomised", "condition_episodes"):
        if (given := getattr(config, name)) < 0:
            raise ValueError(f"{name} must be at least 0, got {given}")
    if config.randomised and config.env.perturbation:
        raise ValueError(
            f"env.perturbation {config.env.perturbation} says how all demonstrations are perturbed: expected "
            f"randomised 0 beside it, got {config.randomised}"
        )
    for condition in config.conditions:
        if not any(acts_in(condition, task) for task in config.tasks):
            raise ValueError(f"{condition} changes nothing in {', '.join(config.tasks)}; leave it out of conditions")
    _recordings(config)


def _said(config: Config) -> list[str]:
    """What demonstrations may say to the robot, reworded as their worlds do."""
    said = [text for task in config.tasks for text in sentences(task, ("train",))]
    worlds = [config.env.perturbation, RANDOMISED_WORLDS if config.randomised else None]
    rewrites = [find_perturbation(name).language for name in worlds if name]
    return said + [other for rewrite in rewrites if rewrite for text in said for other in reworded(text, rewrite)]


def _recordings(config: Config) -> dict[str, tuple[collect.Config, list[int]]]:
    """What is recorded into each store, and with which seeds."""
    usual = collect.Config(
        tasks=config.tasks,
        num_envs=config.num_envs,
        noise=config.noise,
        arm_start_rad=config.arm_start_rad,
        env=config.env,
    )
    recordings = {USUAL: (usual, episode_seeds(config.demonstrations))}
    if config.randomised:
        worlds = replace(
            usual,
            env=replace(config.env, perturbation=RANDOMISED_WORLDS),
            arm_start_rad=ARM_START_RAD,
        )
        recordings[RANDOMISED] = (worlds, episode_seeds(config.randomised, RANDOMISED_SEEDS))
    return recordings


def _demonstrate(config: Config, data: Path) -> "dict[str, dict[str, CollectSummary]]":
    """Record every store, a folder in ``data`` each; what came of it, by store and task."""
    recordings = _recordings(config)
    work = [partial(_record, recording, data / store, seeds) for store, (recording, seeds) in recordings.items()]
    return dict(zip(recordings, side_by_side(work), strict=True))


def _record(recording: collect.Config, store: Path, seeds: list[int], alone: bool) -> "dict[str, CollectSummary]":
    """Record one store; a line tells of each task that is done."""
    found = {}
    with one_torch_thread():
        for task in recording.tasks:
            found |= collect.collect_tasks(replace(recording, tasks=(task,)), store, seeds, show_progress=alone)
            print(f"{store.name} worlds, {task}: {found[task]}", flush=True)
    return found


def _evaluate(config: Config, policy: Path) -> "tuple[Judged, dict[str, list[EvaluationResult]]]":
    """The policy as it is trained and under each condition."""
    judged, conditions = side_by_side([partial(_judge, config, policy), partial(_judge_conditions, config, policy)])
    return judged, conditions


def _judge(config: Config, policy: Path, alone: bool) -> "Judged":
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
    results = evaluation.evaluate_tasks(_actor(config, policy), settings, seeds, show_progress=alone)
    by_expert = replace(settings, policy=EXPERT, instructions="given", videos=0)
    expert = evaluation.evaluate_tasks(Actor(EXPERT, config.env), by_expert, seeds, show_progress=alone)
    given = [result for result in results if result.instructions == "given"]
    shuffled = [result for result in results if result.instructions == "shuffled"]
    for name, some in (("usual worlds", given), ("shuffled instructions", shuffled), ("the expert", expert)):
        _tell(name, some)
    return given, shuffled, expert


def _judge_conditions(config: Config, policy: Path, alone: bool) -> "dict[str, list[EvaluationResult]]":
    """The policy under each condition; nothing where it is given no episodes."""
    if not config.condition_episodes:
        return {}
    seeds = episode_seeds(min(config.episodes, config.condition_episodes))
    worlds = config.num_envs
    settings = evaluation.Config(policy=str(policy), tasks=config.tasks, num_envs=worlds, videos=0, env=config.env)
    actor = _actor(config, policy)
    found = {}
    for name in config.conditions:
        found[name] = evaluation.evaluate_tasks(actor, settings, seeds, name, show_progress=alone)
        _tell(name, found[name])
    return found


def _tell(name: str, results: "list[EvaluationResult]") -> None:
    """A line about what is done, where several processes share the screen."""
    print(f"{name}: {', '.join(f'{result.task} {result.success.value:.0%}' for result in results)}", flush=True)


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


def _summary(config: Config, outcome: "Outcome", watch: Stopwatch) -> dict[str, Any]:
    """What ``summary.json`` holds."""
    from configs.report.quickstart import summary_of

    recorded = {store: [seeds[0], seeds[-1]] for store, (_, seeds) in _recordings(config).items()}
    return {
        "wall_s": watch.wall_s,
        **summary_of(outcome),
        "phases_s": watch.phases_s,
        "seeds": {
            "training": config.training.train.seed,
            "demonstrations": {"stream": "demonstrate", **recorded},
            "evaluation": {"stream": "evaluate", "seeds": [0, config.episodes - 1]},
        },
        "machine": describe_run(),
    }


def _report(training: train.Config, outcome: "Outcome", watch: Stopwatch, run_dir: Path) -> None:
    from configs.report.document import FactsSection, SettingsSection, read_curves, write_report
    from configs.report.quickstart import sections_of

    sections = [
        *sections_of(outcome, read_curves(run_dir / "train")),
        FactsSection(title="Time", facts={name: f"{seconds:.0f} s" for name, seconds in watch.phases_s.items()}),
        FactsSection(title="Machine and versions", facts=describe_run()),
        SettingsSection(config=to_json(training)),
    ]
    write_report(run_dir / REPORT_FILE, "Quickstart", sections, lead="One policy for every task, from demonstrations.")


def _publish(run_dir: Path) -> Path:
    """Copy summary and report to ``outputs/quickstart`` and point ``latest`` at the run; returns that link."""
    home = run_dir.parent.parent
    for name in (SUMMARY_FILE, REPORT_FILE):
        write_atomically(home / name, (run_dir / name).read_bytes())
    aside = home / ".latest.writing"
    aside.unlink(missing_ok=True)
    os.symlink(run_dir.relative_to(home), aside)
    return aside.replace(home / "latest")

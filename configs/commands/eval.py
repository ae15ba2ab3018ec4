"""Evaluate a checkpoint, a policy server, the expert or chance on unseen episodes, with intervals and a report.

Every episode is written down as it ends, in episodes.jsonl; what was killed goes on with --resume RUN.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import tyro

from configs.acting import EXPERT, UNTAUGHT, Actor, is_server
from configs.cluster import ClusterConfig, check_cluster, spreading
from configs.environments import acts_in, episode_seeds, expand_tasks, one_torch_thread
from configs.machine import check_int8, check_threads
from configs.report.tables import UNPERTURBED, print_axes, print_table
from configs.run_directory import OUTPUTS, create_run_directory, load_config, write_json
from configs.serialization import at_home, to_json
from configs.worker_suites import check_suites, phrasings_of, suite_provenance
from configs.worlds import EnvConfig, Split, axis_names
from policies.conditions import Condition, Instructions, Without
from policies.serving.client import ClientConfig
from rl.feedback.config import FeedbackConfig

if TYPE_CHECKING:
    from configs.eval_record import EpisodeKeeper, EvalRecord
    from policies.episode_log import FinishedEpisode
    from policies.evaluation import EvaluationResult

RESULTS_FILE = "results.json"
REPORT_FILE = "report.html"
USUAL_TASKS = ("reach", "pick", "place")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Whom to evaluate, on what, and how often."""

    policy: Annotated[str, tyro.conf.Positional]
    """A run's folder, a checkpoint in it, a server's address (ws://host:port), expert, or random (actions drawn within
    the robot's bounds)."""
    tasks: tuple[str, ...] = ()
    """Tasks or suites to evaluate on, one after the other; reach, pick and place by default."""
    suite: str | None = None
    """A suite to evaluate on, instead of tasks: ten of our own, or another project's (robosuite, metaworld-mt10,
    metaworld-mt50, libero-spatial and LIBERO's others)."""
    perturb: str | None = None
    """A preset of perturbations, such as colosseum-14: every axis of it is evaluated, beside the usual worlds."""
    episodes: int = 50
    """Episodes per task, one per seed."""
    first_seed: int = 0
    """The first seed, of the stream evaluate; demonstrations are of another stream, whose episodes are all others."""
    split: Split = "held_out"
    """Phrasings of the instructions: those of the demonstrations, or held-out ones."""
    instructions: Literal["given", "shuffled", "both"] = "given"
    """shuffled hands every episode the next one's instruction: a policy that heeds language succeeds where both goals
    are equal, a share that is printed beside its success, and by accident."""
    without: tuple[Without, ...] = ()
    """What the policy is denied, to see whether it needs it: language hands it an empty instruction, pictures black
    images."""
    num_envs: int = 25
    """Worlds stepped at once. With the cpu engine and the network on the CPU it changes speed and memory, and no action
    of any episode, to the last bit. Other processors, GPUs, thread counts or builds of torch may round differently,
    and so may the warp engine with other numbers of worlds: then a few episodes may end otherwise."""
    videos: int = 6
    """Episodes per task to show in the report."""
    device: str = "cpu"
    """Where the network runs, such as cpu or cuda."""
    threads: int = 0
    """Threads for the network on the CPU; 0 leaves torch's choice."""
    int8: bool = False
    """Let the network's linear layers compute with 8-bit integers, on the CPU alone: a little off, and one world after
    the other, which pays for large networks."""
    answer: bool = True
    """Let a policy with a chat head say what it does, and measure whether that agrees with what it does; without, it
    acts sooner."""
    replan_interval: int | None = None
    """Actions to execute before the policy looks again; its own choice by default."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The simulated worlds; a policy decides itself what its cameras must look like."""
    client: ClientConfig = field(default_factory=ClientConfig)
    """How to talk to a policy server; its address is the policy's."""
    rlcf: FeedbackConfig = field(default_factory=FeedbackConfig)
    """How the policy learns from a score while it acts, where rlcf.reward names one."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Tasks and perturbations beside each other; it changes no action of any episode."""
    outputs: Path = OUTPUTS
    """Folder that holds the runs."""

    def __post_init__(self) -> None:
        check_threads(self.threads, self.device)
        check_int8(self.int8, self.device)


def run(config: Config) -> int:
    """Evaluate, print a table, and leave ``episodes.jsonl``, ``results.json`` and ``report.html`` in a new run
    directory.
    """
    check(config)
    tasks = expand_tasks([config.suite] if config.suite else config.tasks or USUAL_TASKS)
    config = replace(config, policy=_led_home(config.policy), tasks=tasks, suite=None)
    actor = _actor(config)
    run_dir = create_run_directory("eval", Path(config.policy).name, config, config.outputs)
    return _evaluate_in(run_dir, config, actor)


def resume(config: Config, run_dir: Path) -> int:
    """Go on in ``run_dir`` with the episodes that it has not: what comes of it is what it would have come to.

    ``ValueError`` for settings other than the run's, but for ``num_envs``, ``client`` and ``cluster``, and where
    weights, the simulator or versions have changed since.
    """
    check(config)
    saved = at_home(load_config(Config, run_dir))
    same = replace(config, num_envs=saved.num_envs, client=saved.client, cluster=saved.cluster)
    for field_ in (field_ for field_ in fields(Config) if getattr(same, field_.name) != getattr(saved, field_.name)):
        name, was = field_.name, getattr(saved, field_.name)
        raise ValueError(f"the run goes on as it began, with {name} {was}; got {getattr(config, name)}")
    return _evaluate_in(run_dir, config, _actor(config))


def _actor(config: Config) -> Actor:
    """What acts; ``ValueError`` for settings that mean nothing to it, or that have no episodes."""
    from policies.evaluation import check_instructions

    check_suites(config.tasks)
    check_cluster(config.cluster)
    if given := config.env.perturbation:
        for task in (task for task in config.tasks if not acts_in(given, task)):
            raise ValueError(f"{given} changes nothing in {task}; leave the task out")
    seeds, (_, *others) = episode_seeds(config.episodes, config.first_seed), _axes(config)
    for axis in others:
        for task in config.tasks:
            acts_in(axis, task)  # which refuses a task that it cannot be asked of
    for kind in kinds_of(config):
        check_instructions(kind, len(seeds))
    actor = Actor(
        config.policy,
        config.env,
        device=config.device,
        threads=config.threads,
        int8=config.int8,
        answer=config.answer,
        replan_interval=config.replan_interval,
        client=config.client,
        rlcf=config.rlcf,
    )
    if config.without and not actor.looks:
        raise ValueError(f"{config.policy} acts on numbers alone: it cannot be without {', '.join(config.without)}")
    actor.check(config.tasks)
    return actor


def _evaluate_in(run_dir: Path, config: Config, actor: Actor) -> int:
    from configs.eval_record import EvalRecord
    from configs.report.evaluation import entries, write_evaluation_report

    axes, results = _axes(config), {}
    seeds = episode_seeds(config.episodes, config.first_seed)
    with EvalRecord(run_dir, _made_by(config)) as record:
        perturbations = {axis: None if axis == axes[0] else axis for axis in axes}
        if config.cluster.workers:
            _evaluate_on_cluster(config, seeds, tuple(perturbations.values()), record)
        for axis in axes:
            results[axis] = evaluate_tasks(actor, config, seeds, perturbations[axis], record=record)
            write_json(entries(results, record.provenance), run_dir / RESULTS_FILE)
        words, last = phrasings_of(config.tasks, config.split), seeds[-1]
        write_evaluation_report(
            run_dir / REPORT_FILE,
            results,
            record,
            title=f"Evaluation of {config.policy}",
            lead=f"{config.episodes} episodes per task, seeds {seeds[0]} … {last} of the stream evaluate, {words}.",
            settings=to_json(config),
        )
    print_table(results[axes[0]])
    for result in results[axes[0]]:
        if result.agreement is not None:
            print(f"{result.task} ({result.instructions}): {result.agreement}")
    if config.perturb:
        for kind in kinds_of(config):
            print_axes(results, kind)
    print(f"\nreport: {run_dir / REPORT_FILE}")
    return 0


def _made_by(config: Config) -> dict[str, Any]:
    """What the outcomes depend on, with how it learned meanwhile, if it did."""
    from configs.eval_record import provenance
    from configs.experts import content_digest
    from rl.rewards.making import score_folder

    learning = {}
    if reward := config.rlcf.reward:
        folder = score_folder(reward)
        learning = {"rlcf": to_json(config.rlcf), "rlcf_sha256": folder and content_digest(folder)}
    made_by = provenance(config.policy, config.env, config.split)
    return made_by | suite_provenance(config.tasks) | learning


def _led_home(policy: str) -> str:
    """A run's folder with the home folder in the place of ``~``; servers and what has no folder as they are."""
    return policy if policy in UNTAUGHT or is_server(policy) else str(at_home(Path(policy)))


def kinds_of(config: Config) -> tuple[Instructions, ...]:
    """The kinds of instruction that are evaluated, one after the other."""
    if "language" in config.without:
        return ("none",)
    return ("given", "shuffled") if config.instructions == "both" else (config.instructions,)


def check(config: Config) -> None:
    """``ValueError`` for settings of which one would change nothing because of another."""
    if config.suite and config.tasks:
        raise ValueError(f"name either a suite or tasks, got suite {config.suite} and tasks {', '.join(config.tasks)}")
    if config.perturb and config.env.perturbation:
        raise ValueError(
            f"perturb compares with the usual worlds, got perturb {config.perturb} and env.perturbation "
            f"{config.env.perturbation}; give one of them"
        )
    server, asked = is_server(config.policy), config.client
    if asked.url not in (ClientConfig().url, config.policy):
        raise ValueError(f"the server's address is the policy, {config.policy}, so client.url is not to be {asked.url}")
    untaught = config.policy in UNTAUGHT
    if untaught and config.instructions != "given":
        raise ValueError(f"{_named(config)} reads no instructions, so they cannot be {config.instructions}")
    if untaught and config.without:
        raise ValueError(
            f"{_named(config)} neither reads nor looks, so it cannot be without {', '.join(config.without)}"
        )
    if "language" in config.without and config.instructions != "given":
        raise ValueError(f"without language there are no instructions, so they cannot be {config.instructions}")
    _check_rlcf(config)
    void = {
        "replan_interval": config.replan_interval is not None and untaught,
        "device": config.device != "cpu" and (server or untaught),
        "threads": config.threads != 0 and (server or untaught),
        "int8": config.int8 and (server or untaught),
        "answer": not config.answer and (server or untaught),
        "rlcf": bool(config.rlcf.reward) and (server or untaught),
        "client": replace(asked, url=ClientConfig().url) != ClientConfig() and not server,
    }
    for name in (name for name, given in void.items() if given):
        raise ValueError(f"{name} changes nothing where {config.policy} acts")


def _check_rlcf(config: Config) -> None:
    given, plain = config.rlcf, FeedbackConfig()
    if not given.reward and given != plain:
        raise ValueError(f"rlcf changes nothing without a reward: name one (rlcf.reward), got {given}")
    if given.reward and config.int8:
        raise ValueError("rlcf learns by gradients, which integers have not: leave int8 out")


def _named(config: Config) -> str:
    return "the expert" if config.policy == EXPERT else f"the {config.policy} policy"


def evaluate_tasks(
    actor: Actor,
    config: Config,
    seeds: Sequence[int],
    perturbation: str | None = None,
    show_progress: bool = True,
    record: "EpisodeKeeper | None" = None,
) -> "list[EvaluationResult]":
    """One result per task and kind of instruction; tasks in which ``perturbation`` changes nothing are left out.

    Without it, the worlds are those of the config. Episodes that ``record`` has are not run again, and it keeps the
    others.
    """
    from policies.evaluation import evaluate

    kinds = kinds_of(config)
    results = []
    for task in config.tasks:
        if perturbation is not None and not actor.heeds(perturbation, task):
            continue
        worlds, filmed = min(config.num_envs, len(seeds)), config.videos > 0
        env, policy = actor.enter(task, worlds, config.split, perturbation, filmed)
        try:
            for kind in kinds:
                videos = config.videos if kind == kinds[0] else 0
                condition = Condition(
                    task=env.task_name,
                    perturbation=perturbation or config.env.perturbation,
                    instructions=kind,
                    without=config.without,
                )
                results.append(
                    evaluate(
                        env,
                        policy,
                        seeds,
                        instructions=kind,
                        pictures="pictures" not in config.without,
                        perturbation=condition.perturbation,
                        record_videos=videos,
                        finished=record.finished(condition) if record else None,
                        keep=record.keeper(condition) if record else None,
                        show_progress=show_progress,
                    )
                )
        finally:
            env.close()
    return results


def _evaluate_on_cluster(
    config: Config, seeds: Sequence[int], perturbations: Sequence[str | None], record: "EvalRecord"
) -> None:
    """Have all episodes that ``record`` lacks run by workers, a task under one perturbation at a time."""
    from policies.progress import progress_bar

    done = [(each.condition, each.episode) for each in record.log.records]
    parts = [
        EvaluationPart(replace(config, tasks=(task,), cluster=ClusterConfig()), seeds, perturbation, done)
        for perturbation in perturbations
        for task in config.tasks
    ]
    with spreading(config.cluster) as spread, progress_bar(True) as progress:
        bar = progress.add_task(f"evaluate on {config.cluster.workers} workers", total=len(parts), note="")
        for ended in spread(evaluate_part, parts):
            for condition, episode in ended:
                record.keeper(condition)(episode)
            progress.update(bar, advance=1)


class EvaluationPart(NamedTuple):
    """One task of an evaluation under one perturbation, and the episodes that have ended, whatever they are of."""

    config: Config
    seeds: Sequence[int]
    perturbation: str | None
    done: "Sequence[tuple[Condition, FinishedEpisode]]"


def evaluate_part(part: EvaluationPart) -> "list[tuple[Condition, FinishedEpisode]]":
    """The episodes of ``part`` that are missing."""
    kept = _Kept(part.done)
    with one_torch_thread():
        evaluate_tasks(_actor(part.config), part.config, part.seeds, part.perturbation, False, kept)
    return kept.ended


class _Kept:
    """Keeps episodes in memory."""

    def __init__(self, done: "Sequence[tuple[Condition, FinishedEpisode]]") -> None:
        self._done, self.ended = done, list[tuple[Condition, "FinishedEpisode"]]()

    def finished(self, condition: Condition) -> "Mapping[int, FinishedEpisode]":
        return {episode.result.seed: episode for under, episode in self._done if under == condition}

    def keeper(self, condition: Condition) -> "Callable[[FinishedEpisode], None]":
        return lambda episode: self.ended.append((condition, episode))


def _axes(config: Config) -> tuple[str, ...]:
    """What is evaluated, by name: the usual worlds (or those of the config), then every axis of ``perturb``."""
    if config.perturb is None:
        return (config.env.perturbation or UNPERTURBED,)
    return (UNPERTURBED, *axis_names(config.perturb))

"""Record demonstrations of the scripted expert; a recording that was stopped goes on where it was."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from configs.environments import TRAINING_SEEDS, EnvConfig, check_tasks, episode_seeds, make_env
from configs.run_directory import OUTPUTS
from policies.collect import ExecutionNoise

if TYPE_CHECKING:
    from policies.collect import CollectSummary


def recoveries() -> ExecutionNoise:
    """Pushes of a few centimetres, so that demonstrations show how to get back; the tool stays upright."""
    return ExecutionNoise(std=0.5, hold_steps=3, probability=0.25, exempt=("gripper", "rx", "ry", "rz"))


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which tasks, how many demonstrations, and where to."""

    tasks: Annotated[tuple[str, ...], tyro.conf.Positional] = ("reach", "pick", "place")
    """Tasks to record, all into one dataset."""
    episodes: int = 100
    """Episodes per task; those in which the expert fails are left out."""
    first_seed: int = 0
    """Which of the training seeds to begin with; evaluations never use them."""
    path: Path | None = None
    """The dataset's folder, made or added to; by default outputs/datasets/ and the tasks' names."""
    keep_failures: bool = False
    """Also record the episodes in which the expert fails."""
    num_envs: int = 32
    """Worlds stepped at once; it changes the speed and no episode."""
    noise: ExecutionNoise = field(default_factory=recoveries)
    """Disturbs what is executed, not what is recorded, so that recoveries are shown."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The simulated worlds."""


def run(config: Config) -> int:
    """Record every task and say what came of it."""
    check_tasks(config.tasks)
    path = config.path or OUTPUTS / "datasets" / "-".join(config.tasks)
    seeds = episode_seeds(TRAINING_SEEDS, config.first_seed, config.episodes)
    for task, summary in collect_tasks(config, path, seeds).items():
        rate = summary.frames / summary.wall_s
        print(
            f"{task}: {summary.recorded} recorded, {summary.failed} failed, {summary.skipped} there already; "
            f"{summary.frames} frames in {summary.wall_s:.0f} s ({rate:.0f}/s)"
        )
    print(f"dataset: {path}")
    return 0


def collect_tasks(config: Config, path: Path, seeds: Sequence[int]) -> "dict[str, CollectSummary]":
    """Record one expert episode per task and seed into the dataset at ``path``."""
    from dataclasses import asdict

    from policies.collect import collect
    from policies.expert import ExpertPolicy

    summaries = {}
    for task in config.tasks:
        env = make_env(task, min(config.num_envs, len(seeds)), config=config.env)
        try:
            summaries[task] = collect(
                env,
                ExpertPolicy(env),
                path,
                seeds,
                noise=config.noise,
                keep_failures=config.keep_failures,
                settings={"policy": "expert", "split": env.split, "render_profile": asdict(env.profile)},
            )
        finally:
            env.close()
    return summaries

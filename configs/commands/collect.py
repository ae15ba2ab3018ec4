"""Record demonstrations of the scripted expert; a recording that was stopped goes on where it was."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from configs.environments import ARM_START_RAD, EnvConfig, episode_seeds, expand_tasks, make_env, one_torch_thread
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
    """Tasks or suites to record, all into one dataset."""
    episodes: int = 100
    """Episodes per task; those in which the expert fails are left out."""
    first_seed: int = 0
    """The first seed, of the stream demonstrate; evaluations are of another stream, whose episodes are all others."""
    path: Path | None = None
    """The dataset's folder, made or added to; by default outputs/datasets/ and the tasks' names."""
    keep_failures: bool = False
    """Also record the episodes in which the expert fails."""
    num_envs: int = 32
    """Worlds stepped at once; it changes the speed and no episode."""
    noise: ExecutionNoise = field(default_factory=recoveries)
    """Disturbs what is executed, not what is recorded, so that recoveries are shown."""
    arm_start_rad: float = ARM_START_RAD
    """How far from home the arm starts at most, in joint space (0: at home). A perturbation of the worlds that says
    where the arm starts has its way."""
    render: int = 0
    """Film the first so many episodes of each task, into the dataset's folder renders: an mp4 and a contact sheet
    each, in RGB, depth and segmentation, whatever the dataset itself holds."""
    render_size_px: int = 256
    """Side of the films' square views."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The simulated worlds."""

    def __post_init__(self) -> None:
        if self.render < 0 or self.render_size_px < 16:
            given = f"{self.render} and {self.render_size_px}"
            raise ValueError(f"render must not be negative and render_size_px be at least 16, got {given}")


def run(config: Config) -> int:
    """Record every task and say what came of it."""
    name = "-".join(config.tasks).replace("/", "-")
    config = replace(config, tasks=expand_tasks(config.tasks))
    if config.render:
        from policies.data.film import require_av

        require_av()
    path = config.path or OUTPUTS / "datasets" / name
    seeds = episode_seeds(config.episodes, config.first_seed)
    with one_torch_thread():
        summaries = collect_tasks(config, path, seeds)
    for task, summary in summaries.items():
        rate = summary.frames / summary.wall_s
        print(
            f"{task}: {summary.recorded} recorded, {summary.failed} failed, {summary.skipped} there already; "
            f"{summary.frames} frames in {summary.wall_s:.0f} s ({rate:.0f}/s)"
        )
    for task in config.tasks:
        film_first_episodes(config, task, path, seeds[: config.render])
    print(f"dataset: {path}")
    return 0


def collect_tasks(config: Config, path: Path, seeds: Sequence[int]) -> "dict[str, CollectSummary]":
    """Record one expert episode per task and seed, of the stream ``demonstrate``, into the dataset at ``path``."""
    from dataclasses import asdict

    from policies.collect import collect
    from policies.expert import ExpertPolicy

    summaries = {}
    for task in config.tasks:
        worlds = min(config.num_envs, len(seeds))
        env = make_env(task, worlds, stream="demonstrate", config=config.env, arm_start_rad=config.arm_start_rad)
        try:
            summaries[task] = collect(
                env,
                ExpertPolicy(env),
                path,
                seeds,
                noise=config.noise,
                keep_failures=config.keep_failures,
                settings={
                    "policy": "expert",
                    "split": env.split,
                    "perturbation": config.env.perturbation,
                    "arm_start_rad": config.arm_start_rad,
                    "render_profile": asdict(env.profile),
                },
            )
        finally:
            env.close()
    return summaries


def film_first_episodes(config: Config, task: str, path: Path, seeds: Sequence[int]) -> None:
    """Run the episodes of ``seeds`` again before larger cameras and film them; films that are there are kept."""
    from configs.filming import RENDERS, Film, Studio, film_episode

    films = {seed: Film.named(path / RENDERS, f"{task}-{seed:06d}") for seed in seeds}
    missing = [seed for seed, film in films.items() if not film.exists()]
    if not missing:
        return
    large = replace(config.env, image_size_px=config.render_size_px, profile="quality")
    studio = Studio(task, large, config.arm_start_rad)
    with closing(studio):
        for seed in missing:
            film_episode(studio.episode(seed, config.noise), films[seed], studio.embodiment.control_rate_hz)
            print(films[seed])

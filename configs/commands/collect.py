"""Record demonstrations of the scripted expert, or a policy's; a recording that was stopped goes on where it was."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro

from configs.cluster import ClusterConfig, Spread, spreading
from configs.environments import (
    ARM_START_RAD,
    episode_seeds,
    expand_tasks,
    make_env,
    one_torch_thread,
    starting_anywhere,
    usual_start_rad,
)
from configs.experts import SCRIPTED, Demonstrator, find_demonstrator, try_out
from configs.run_directory import OUTPUTS
from configs.serialization import TYPE_TAG, to_json
from configs.worlds import EnvConfig, find_perturbation
from policies.collect import CollectSummary, ExecutionNoise, Recorder, collect, record_episodes
from policies.data.episode import Episode

if TYPE_CHECKING:
    from configs.environments import AnyEnv


def recoveries() -> ExecutionNoise:
    """Pushes of a few centimetres, so that demonstrations show how to get back; the tool stays upright."""
    return ExecutionNoise(std=0.5, hold_steps=3, probability=0.25, exempt=("gripper", "rx", "ry", "rz"))


FILM_SIZE_PX = 256
FREE_TO_CHANGE = frozenset(
    {"tasks", "expert", "episodes", "first_seed", "path", "num_envs", "render", "render_size_px"}
    | {"cluster.workers", "cluster.address"}
    | {f"env.{name}" for name in ("threads", "render_limit_s", "device", "contacts_per_world", "rows_per_world")}
    | {"env.suite_profile"}
)
"""What may differ between recordings into one dataset: how much is recorded, where, how fast, and the folder that an
expert lies in; who it is may not. A suite's render profile is noted by what it stands for."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which tasks, how many demonstrations, and where to.

    A dataset keeps all of this, but for what ``FREE_TO_CHANGE`` names, and is added to with the same alone.
    """

    tasks: Annotated[tuple[str, ...], tyro.conf.Positional] = ("reach", "pick", "place")
    """Tasks or suites to record, all into one dataset."""
    expert: str = SCRIPTED
    """Who demonstrates: scripted; a folder of a run or policy, of numbers or pictures; or sb3:FILE.zip, a PPO of
    stable-baselines3 trained in envs/sb3.py without VecNormalize. A policy looks again as often as in an evaluation,
    and what noise did to its chunk's later actions it sees then."""
    episodes: int = 100
    """Seeds to try per task. Those in which the expert fails are not recorded (unless failures are kept), so that
    there may be fewer episodes; they are noted in the dataset and not tried again."""
    first_seed: int = 0
    """The first seed, of the stream demonstrate; evaluations are of another stream, whose episodes are all others."""
    path: Path | None = None
    """The dataset's folder, made or added to; by default outputs/datasets/ and the tasks' names. What was recorded
    with other worlds, noise or start of the arm is not added to."""
    keep_failures: bool = False
    """Also record the episodes in which the expert fails; training leaves them out unless it is asked for them."""
    num_envs: int = 32
    """Worlds stepped at once; with the cpu engine it changes the speed and no episode."""
    noise: ExecutionNoise = field(default_factory=recoveries)
    """Disturbs what is executed, not what is recorded, so that recoveries are shown: recorded actions played back
    open-loop therefore do not repeat the episode."""
    arm_start_rad: float = ARM_START_RAD
    """How far from home the arm starts at most, in joint space (0: at home). A perturbation of the worlds that says
    where the arm starts has its way, and so has another project's simulator."""
    render: int = 0
    """Film the first so many episodes of each task, into the dataset's folder renders: an mp4 and a contact sheet
    each, in RGB, depth and segmentation, whatever the dataset itself holds."""
    render_size_px: int = FILM_SIZE_PX
    """Side of the films' square views."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The simulated worlds."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Waves of episodes, num_envs in each, beside each other; it changes the speed and no episode."""

    def __post_init__(self) -> None:
        if self.render < 0 or self.render_size_px < 16:
            given = f"{self.render} and {self.render_size_px}"
            raise ValueError(f"render must not be negative and render_size_px be at least 16, got {given}")
        if not self.render and self.render_size_px != FILM_SIZE_PX:
            raise ValueError(f"no films are asked for (render 0), got render_size_px {self.render_size_px}")
        if self.render and self.expert != SCRIPTED:
            raise ValueError(f"films show the {SCRIPTED} expert alone, got render {self.render} of {self.expert}")


def run(config: Config) -> int:
    """Record every task and say what came of it."""
    name = "-".join(config.tasks).replace("/", "-")
    tasks = expand_tasks(config.tasks)
    config = replace(config, tasks=tasks, arm_start_rad=usual_start_rad(tasks, config.arm_start_rad))
    if config.render:
        from policies.showing.film import require_av

        require_av()
    path = config.path or OUTPUTS / "datasets" / name
    seeds = episode_seeds(config.episodes, config.first_seed)
    with one_torch_thread():
        summaries = collect_tasks(config, path, seeds)
    for task, summary in summaries.items():
        print(f"{task}: {summary}")
    for task in config.tasks:
        film_first_episodes(config, task, path, seeds[: config.render])
    print(f"dataset: {path}")
    return 0


def collect_tasks(
    config: Config, path: Path, seeds: Sequence[int], show_progress: bool = True
) -> dict[str, CollectSummary]:
    """Record one expert episode per task and seed, of the stream ``demonstrate``, into the dataset at ``path``."""
    who = find_demonstrator(config.expert, config.env)
    config = replace(config, env=who.env)
    if config.expert != SCRIPTED:
        for task in config.tasks:
            with closing(_worlds(config, task, 1, who)) as env:
                try_out(who, env, seeds[0])
    summaries = {}
    with spreading(config.cluster) as spread:
        for task in config.tasks:
            with closing(_worlds(config, task, min(config.num_envs, len(seeds)), who)) as env:
                summaries[task] = collect(
                    env,
                    who.policy_in(env),
                    path,
                    seeds,
                    noise=config.noise,
                    keep_failures=config.keep_failures,
                    settings=provenance(config, env, who),
                    recorder=_on_cluster(spread, config, task) if config.cluster.workers else None,
                    show_progress=show_progress,
                )
    return summaries


class Wave(NamedTuple):
    """Seeds of one task, of whose episodes the fields of these keys are wanted."""

    config: Config
    task: str
    seeds: list[int]
    keys: Sequence[str]


def record_wave(wave: Wave) -> list[Episode]:
    """The episodes of ``wave``, from worlds of their own."""
    who = find_demonstrator(wave.config.expert, wave.config.env)
    config = replace(wave.config, env=who.env)
    with one_torch_thread(), closing(_worlds(config, wave.task, len(wave.seeds), who)) as env:
        return record_episodes(env, who.policy_in(env), wave.seeds, wave.keys, noise=config.noise)


def _on_cluster(spread: Spread, config: Config, task: str) -> Recorder:
    alone = replace(config, cluster=ClusterConfig())
    return lambda waves, keys: spread(record_wave, [Wave(alone, task, wave, keys) for wave in waves])


def _worlds(config: Config, task: str, num_envs: int, who: Demonstrator) -> "AnyEnv":
    """Worlds of the stream ``demonstrate`` that show what ``who`` sees."""
    return make_env(
        task,
        num_envs,
        stream="demonstrate",
        config=config.env,
        arm_start_rad=config.arm_start_rad,
        privileged=who.privileged,
    )


def provenance(config: Config, env: "AnyEnv", who: Demonstrator) -> dict[str, Any]:
    """All that decides what an episode of a seed is, JSON-ready: the config, and what its names stand for."""
    preset = config.env.perturbation
    perturbation = starting_anywhere(find_perturbation(preset) if preset else None, config.arm_start_rad)
    return {
        **_decisive(to_json(config)),
        "policy": who.name,
        "split": env.split,
        "device": env.device.type,
        "render_profile": asdict(env.profile),
        "perturbation": {name: axis for name, axis in to_json(perturbation).items() if axis and name != TYPE_TAG},
    }


def _decisive(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """What a saved config holds but for ``FREE_TO_CHANGE``, and parts of which nothing is left."""
    found = {
        name: _decisive(value, f"{prefix}{name}.") if isinstance(value, dict) else value
        for name, value in config.items()
        if name != TYPE_TAG and f"{prefix}{name}" not in FREE_TO_CHANGE
    }
    return {name: value for name, value in found.items() if value != {}}


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

"""Train a reward, or see how far rewards can be trusted: vla reward eval towers --tasks reach pick place.

vla reward train classifier learns, from the simulator's expert and from failures that are made on purpose, which frames
show that the task is done; vla reward train towers, from the same, which pictures fit the words for what is then to be
seen; vla reward train process --dataset PATH learns from demonstrations alone how far they are.

vla reward eval tries scores on fresh episodes of both kinds. A score is states (the package's own, of reach, pick and
place), towers (those of the package's own backbone), the folder of a reward that was trained, a checkpoint of CLIP or
SigLIP (its folder or its id on the hub), or ask:CHECKPOINT, a vision-language model that is asked yes or no. AUC says
whether it ranks successes above failures, order whether it grows along a success, false positives how many failures it
calls done by a threshold that was chosen on other episodes.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from configs.environments import ARM_START_RAD, episode_seeds, expand_tasks, make_env, make_task_env, one_torch_thread
from configs.goals import goal_describer
from configs.run_directory import OUTPUTS, create_run_directory
from configs.serialization import to_json
from configs.worlds import EnvConfig
from envs.specs import EmbodimentSpec, Stream
from rl.rewards.config import TOWERS, HeadConfig, LabConfig, LabelConfig, ScorerConfig

if TYPE_CHECKING:
    from rl.rewards.classifier import Calibration
    from rl.rewards.head import SavedHead
    from rl.rewards.lab import ScorerReport
    from rl.rewards.reward import Scorer
    from rl.rewards.state_towers import SavedTowers
    from rl.rewards.traces import Trace

REPORT_FILE, REWARD_FOLDER = "rewards.json", "reward"
KINDS = ("classifier", "process", "towers")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which rewards, on which episodes."""

    action: Annotated[Literal["train", "eval"], tyro.conf.Positional]
    """train: make a reward. eval: try some."""
    names: Annotated[tuple[str, ...], tyro.conf.Positional]
    """train: classifier, towers or process. eval: the scores to try."""
    tasks: tuple[str, ...] = ("reach", "pick", "place")
    """Tasks or suites whose episodes are recorded."""
    episodes: int = 20
    """Seeds per task; each gives an episode of the expert and one of every kind of failure."""
    calibration_episodes: int = 20
    """Seeds per task for the threshold, of another stream than the others."""
    first_seed: int = 0
    """The first seed of each stream."""
    every: int = 2
    """Control steps between the frames that are looked at."""
    dataset: Path | None = None
    """train process: the demonstrations to learn from."""
    num_envs: int = 20
    """Worlds stepped at once."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The simulated worlds."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """train: the network on frozen features."""
    towers: HeadConfig = TOWERS
    """train towers: each of the two networks on what the frozen backbone makes of pictures and of words."""
    labels: LabelConfig = field(default_factory=LabelConfig)
    """train process: what counts as progress."""
    scorer: ScorerConfig = field(default_factory=ScorerConfig)
    """eval: how scores are read off."""
    lab: LabConfig = field(default_factory=LabConfig)
    """How scores are judged."""
    outputs: Path = OUTPUTS
    """Folder that holds the runs."""

    def __post_init__(self) -> None:
        if self.episodes < 2 or self.calibration_episodes < 2 or self.every < 1 or self.num_envs < 1:
            raise ValueError(
                "expected at least two episodes of each kind (another one's goal takes another one), and frames "
                f"every 1 … steps, got {self.episodes}, {self.calibration_episodes} and {self.every}"
            )
        if not self.names:
            raise ValueError("name what to train (classifier, towers, process), or the scores to try, such as towers")
        if self.action == "train" and (len(self.names) != 1 or self.names[0] not in KINDS):
            raise ValueError(f"one reward is trained at a time, {' or '.join(KINDS)}; got {list(self.names)}")
        learns_process = self.action == "train" and self.names[0] == "process"
        if learns_process != (self.dataset is not None):
            raise ValueError("a process reward, and nothing else, learns from a dataset: train process --dataset PATH")


def run(config: Config) -> int:
    """Train or try, save, and say what came of it."""
    config = replace(config, tasks=expand_tasks(config.tasks))
    with one_torch_thread():
        return _train(config) if config.action == "train" else _eval(config)


def _eval(config: Config) -> int:
    from rl.rewards.lab import examine, save_reports

    robot = _robot(config)
    scorers = [_scorer(name, config, robot) for name in config.names]
    calibration = record_tasks(config, "learn", config.calibration_episodes)
    trial = record_tasks(config, "evaluate", config.episodes)
    reports = [examine(scorer, calibration, trial, config.lab) for scorer in scorers]
    path = create_run_directory("reward", "eval", config, config.outputs) / REPORT_FILE
    save_reports(reports, _about(config, trial), path)
    _print(reports)
    print(f"report: {path}")
    return 0


def _train(config: Config) -> int:
    from rl.rewards.features import FrozenFeatures

    features = FrozenFeatures(device=config.scorer.device)
    features.check(_robot(config))
    saved: SavedHead | SavedTowers
    if config.names[0] == "towers":
        saved = _learn_towers(config)
    else:
        saved = _learn_process(config, features) if config.dataset else _learn_classifier(config, features)
    folder = create_run_directory("reward", config.names[0], config, config.outputs) / REWARD_FOLDER
    saved.save(folder)
    print(f"{config.names[0]}: learned from {saved.about['episodes']} episodes, {saved.about['frames']} frames")
    print(f"reward: {folder}")
    return 0


def _learn_process(config: Config, features: Any) -> "SavedHead":
    from policies.data.dataset import DemonstrationDataset
    from rl.rewards.process import train_process

    assert config.dataset is not None
    return train_process(DemonstrationDataset(config.dataset), features, config.labels, config.head)


def _learn_classifier(config: Config, features: Any) -> "SavedHead":
    """With the threshold of the precision that is wanted, chosen on episodes of another stream."""
    from rl.rewards.classifier import SuccessClassifier, train_classifier
    from rl.rewards.lab import calibrate_on
    from vla.strict_json import finite

    saved = train_classifier(record_tasks(config, "demonstrate", config.episodes), features, config.head)
    held_out = record_tasks(config, "learn", config.calibration_episodes)
    chosen = calibrate_on(SuccessClassifier(features, saved.head), held_out, config.lab)
    print(f"{_believed(chosen)}; recall {chosen.recall.value:.0%}")
    known = finite({"calibration": asdict(chosen), "votes": config.lab.votes})
    return replace(saved, about={**saved.about, **known})


def _learn_towers(config: Config) -> "SavedTowers":
    from rl.rewards.learning_states import train_towers
    from rl.rewards.nano_towers import FrozenTokens

    traces = record_tasks(config, "demonstrate", config.episodes)
    tokens = FrozenTokens(device=config.scorer.device)
    return train_towers(traces, tokens, goal_describer(config.tasks), config.towers)


def record_tasks(config: Config, stream: Stream, episodes: int) -> "list[Trace]":
    """The expert and its failures on every task, in worlds of ``stream``; training also starts the arm elsewhere."""
    from rl.rewards.failures import record_kinds

    seeds = episode_seeds(episodes, config.first_seed)
    start_rad = ARM_START_RAD if stream == "demonstrate" else 0.0
    found: list[Trace] = []
    for task in config.tasks:
        worlds = min(config.num_envs, len(seeds))
        env = make_task_env(task, worlds, stream=stream, config=config.env, arm_start_rad=start_rad)
        with closing(env):
            found += record_kinds(env, seeds, config.every)
        successes = sum(trace.success for trace in found if trace.task == task)
        print(f"{task} ({stream}): {successes} of {sum(trace.task == task for trace in found)} episodes succeed")
    return found


def _robot(config: Config) -> EmbodimentSpec:
    """What the worlds' robot senses, for checks before anything long."""
    with closing(make_env(config.tasks[0], 1, stream="learn", config=config.env)) as env:
        return env.embodiment


def _scorer(name: str, config: Config, robot: EmbodimentSpec) -> "Scorer":
    from rl.rewards.making import make_scorer

    side = config.env.image_size_px
    return make_scorer(
        name,
        config.scorer,
        cameras=robot.camera_names,
        image_size_px=(side, side),
        describe=goal_describer(config.tasks),
    )


def _about(config: Config, trial: "Sequence[Trace]") -> dict[str, Any]:
    kinds = sorted({trace.kind for trace in trial})
    return {
        "config": to_json(config),
        "streams": {"calibration": "learn", "trial": "evaluate"},
        "seeds": [config.first_seed, config.first_seed + config.episodes - 1],
        "episodes": {
            kind: {
                "episodes": sum(trace.kind == kind for trace in trial),
                "successes": sum(trace.success for trace in trial if trace.kind == kind),
            }
            for kind in kinds
        },
        "frames": sum(map(len, trial)),
    }


def _print(reports: "Sequence[ScorerReport]") -> None:
    from rl.rewards.lab import COLUMNS, rows_of

    rows = [COLUMNS, *rows_of(reports)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for each in reports:
        print(f"{each.name}: {_believed(each.calibration)}")


def _believed(chosen: "Calibration") -> str:
    threshold = f"{chosen.threshold:.3f}" if chosen.reached else "none, no score was that precise"
    return f"threshold for a precision of {chosen.wanted:.0%}: {threshold}"

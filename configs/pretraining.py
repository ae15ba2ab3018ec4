"""What a pre-training is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from configs.machine import simulator_digest, versions
from configs.run_directory import OUTPUTS
from envs.specs import GroundingSource
from policies.pretraining.config import PretrainConfig
from policies.pretraining.keeping import KeptSource
from policies.pretraining.scenes import SourceFactory, Split
from vla.backbones.nano import NanoConfig
from vla.strict_json import strict_json


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Which tables are looked at, and by which robot."""

    tasks: tuple[str, ...] = ()
    """Tasks and suites whose things lie there; by default those of all there are."""
    robot: Literal["panda", "panda_mesh", "ur5e", "so100"] = "panda"
    """The arm, whose cameras and state the backbone will know."""
    image_size_px: int = 64
    """Side of the square camera images."""
    keep: Path | None = None
    """Folder that keeps scenes for the next training that asks for the same; without one they are rendered anew."""

    def __post_init__(self) -> None:
        if self.image_size_px < 16:
            raise ValueError(f"image_size_px must be at least 16, got {self.image_size_px}")

    @property
    def source(self) -> SourceFactory:
        """Makes the source of a split, in whatever process."""
        return partial(make_source, self)


@dataclass(frozen=True, kw_only=True)
class Config:
    """What learns from scenes, at which, from whom, and how long."""

    name: str = "nano"
    """Goes into the run directory's name."""
    scenes: SceneConfig = field(default_factory=SceneConfig)
    backbone: NanoConfig = field(default_factory=NanoConfig)
    """Its sizes; it starts from fresh weights, whatever backbone.weights says, unless start names others."""
    train: PretrainConfig = field(default_factory=PretrainConfig)
    teacher: Path | None = None
    """Folder of a sentence encoder of transformers, or its id on the hub, that teaches what sentences mean."""
    start: Path | None = None
    """A run of vla pretrain, or a backbone in it, of the same robot, to begin with instead of fresh weights."""
    further: Path | None = None
    """The same network after it has been pre-trained further, whose features are kept (train.weights.features)."""
    preview: int = 0
    """So many sentences with what the network would see are drawn into preview.png, and nothing is learned."""
    outputs: Path = OUTPUTS
    """Folder that holds the runs."""

    def __post_init__(self) -> None:
        if self.preview < 0:
            raise ValueError(f"preview must be 0 or more sentences, got {self.preview}")
        if needs := self.backbone.needs:
            raise ValueError(f"pre-training feeds colour images of the present only: {needs}")
        weights = self.train.weights
        if self.teacher is not None and not weights.teacher:
            raise ValueError(f"a teacher needs a weight above 0, got {self.teacher} and train.weights.teacher 0")
        if bool(weights.features) != (self.further is not None):
            raise ValueError(
                "a network that has learned further and train.weights.features above 0 go together, "
                f"got {self.further} and {weights.features}"
            )
        if self.teacher is None and sum(vars(weights).values()) == weights.teacher:
            raise ValueError("train.weights.teacher is the only weight above 0, and there is no teacher")


def make_source(config: SceneConfig, split: Split, worlds: int | None = None) -> GroundingSource:
    """Its tables are the same however many ``worlds`` are drawn at a time."""
    from envs.grounding.scenes import EVERY_TABLE, WORLDS, SceneSource
    from envs.robots import make_robot

    size_px = (config.image_size_px, config.image_size_px)
    arm, tasks = make_robot(config.robot), config.tasks or EVERY_TABLE
    source = SceneSource(tasks=tasks, arm=arm, image_size_px=size_px, split=split, worlds=worlds or WORLDS)
    if config.keep is None:
        return source
    made_of = {"tasks": tasks, "robot": config.robot, "image_size_px": size_px, "split": split}
    return KeptSource(source, config.keep, strict_json({**made_of, **_makers()}))


def _makers() -> dict[str, str]:
    """What else scenes depend on: the code that makes them, and its libraries."""
    return {"envs": simulator_digest(), **versions(("mujoco", "numpy", "torch"))}


def task_sentences(tasks: Sequence[str]) -> tuple[str, ...]:
    """What tasks and suites, by default all there are, say in their phrasings for training: of each in turn."""
    from configs.wording import sentences
    from envs.grounding.scenes import EVERY_TABLE

    turns = zip_longest(*(sentences(task, ("train",)) for task in tasks or EVERY_TABLE))
    return tuple(dict.fromkeys(said for turn in turns for said in turn if said is not None))


def nano() -> Config:
    """The small vision-language network: the default."""
    return Config(name="nano", train=PretrainConfig(threads=1))


def debug() -> Config:
    """A tiny network and a few steps: does everything hold together?"""
    return Config(
        name="debug",
        scenes=SceneConfig(tasks=("pick",)),
        backbone=NanoConfig(
            width=32, depth=2, heads=2, n_queries=2, channels=8, blocks=1, keypoints=2, keypoints_per_token=1
        ),
        train=PretrainConfig(
            steps=10,
            tables=4,
            warmup_steps=2,
            statistics_tables=8,
            held_out_tables=8,
            evaluate_every=5,
            log_every=5,
            save_every=5,
        ),
    )


PRESETS = {"nano": nano, "debug": debug}

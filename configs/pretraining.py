"""What a pre-training is."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from configs.run_directory import OUTPUTS
from envs.specs import GroundingSource
from policies.pretraining.config import PretrainConfig
from policies.pretraining.scenes import SourceFactory, Split
from vla.backbones.nano import NanoConfig
from vla.config import BackboneConfig


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Which tables are looked at, and by which robot."""

    tasks: tuple[str, ...] = ()
    """Tasks and suites whose things lie there; by default those of all there are."""
    robot: Literal["panda", "panda_mesh", "ur5e", "so100"] = "panda"
    """The arm, whose cameras and state the backbone will know."""
    image_size_px: int = 64
    """Side of the square camera images."""

    def __post_init__(self) -> None:
        if self.image_size_px < 16:
            raise ValueError(f"image_size_px must be at least 16, got {self.image_size_px}")

    @property
    def source(self) -> SourceFactory:
        """Makes the source of a split, in whatever process."""
        return partial(make_source, self)


@dataclass(frozen=True, kw_only=True)
class Config:
    """What learns to look, at which scenes, and how long."""

    name: str = "nano"
    """Goes into the run directory's name."""
    scenes: SceneConfig = field(default_factory=SceneConfig)
    backbone: BackboneConfig = field(default_factory=NanoConfig)
    """Its sizes; it starts from fresh weights, whatever backbone.weights says."""
    train: PretrainConfig = field(default_factory=PretrainConfig)
    preview: int = 0
    """So many sentences with what the network would see are drawn into preview.png, and nothing is learned."""
    outputs: Path = OUTPUTS
    """Folder that holds the runs."""

    def __post_init__(self) -> None:
        if self.preview < 0:
            raise ValueError(f"preview must be 0 or more sentences, got {self.preview}")
        if self.backbone.use_depth or self.backbone.frames != 1:
            raise ValueError("pre-training feeds colour images of the present only: use_depth must be off and frames 1")


def make_source(config: SceneConfig, split: Split, worlds: int | None = None) -> GroundingSource:
    """Its tables are the same however many ``worlds`` are drawn at a time."""
    from envs.grounding.scenes import EVERY_TABLE, WORLDS, SceneSource
    from envs.robots import make_robot

    size_px = (config.image_size_px, config.image_size_px)
    arm, tasks = make_robot(config.robot), config.tasks or EVERY_TABLE
    return SceneSource(tasks=tasks, arm=arm, image_size_px=size_px, split=split, worlds=worlds or WORLDS)


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

"""What a training run is."""

from dataclasses import dataclass, field
from pathlib import Path

from configs.run_directory import OUTPUTS
from configs.worlds import EnvConfig, Split
from policies.imitation.config import TrainConfig
from policies.imitation.lifelong.config import LifelongConfig
from vla.backbones.nano import NanoConfig
from vla.config import BackboneConfig, HeadConfig
from vla.heads.bridge import BridgeConfig


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How a policy is tried out in simulation while it learns, on episodes that no usual evaluation has."""

    every: int = 0
    """Steps from one evaluation to the next; one more is at the end. 0: never."""
    tasks: tuple[str, ...] = ()
    """Tasks or suites; those of the data by default."""
    episodes: int = 20
    """Episodes per task."""
    split: Split = "train"
    """Phrasings of the instructions; with held_out, the checkpoint that does best is chosen by phrasings that vla eval
    takes as unseen."""
    num_envs: int = 20
    """Worlds stepped at once."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The simulated worlds; a policy decides itself what its cameras must look like."""

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ValueError(f"evaluate.every must be 0 (never) or more steps, got {self.every}")
        for name in ("episodes", "num_envs"):
            if getattr(self, name) < 1:
                raise ValueError(f"evaluate.{name} must be at least 1, got {getattr(self, name)}")
        if self.tasks and not self.every:
            raise ValueError(
                f"say how often to evaluate on {', '.join(self.tasks)}: evaluate.every N steps (0, as it is, is never)"
            )


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to train, on which demonstrations, and how long."""

    name: str = "nano-bridge"
    """Goes into the run directory's name."""
    data: tuple[Path, ...] = ()
    """Folders of demonstrations of one robot; all their episodes are used, failed ones only with train.failures."""
    cameras: tuple[str, ...] = ()
    """Views in the network's order; all of the robot's cameras by default."""
    image_size_px: int | None = None
    """Side of the square images that the network sees; by default the recorded size, or that of init_from."""
    horizon: int = 8
    """Actions per chunk."""
    backbone: BackboneConfig = field(default_factory=NanoConfig)
    """What sees and reads: nano, or a pretrained vision-language model (the presets vlm-*). Of nano its sizes, and the
    weights that it starts from (backbone.weights) unless init_from or init_backbone names others: shipped are the
    package's own, which have learned to look, fresh are none."""
    head: HeadConfig = field(default_factory=BridgeConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    lifelong: LifelongConfig = field(default_factory=LifelongConfig)
    """Tasks to learn one after the other instead of all at once."""
    init_from: Path | None = None
    """A run, or a policy in it, whose weights to start from, or shipped for the package's own policy; they keep the
    normalisation that they were trained with, and their text window unless backbone.max_text_tokens says it. Optimiser
    and schedule are fresh."""
    init_backbone: Path | None = None
    """A run of vla pretrain, or a backbone in it, to look with from the first step: what fits of it is taken over."""
    outputs: Path = OUTPUTS
    """Folder that holds the runs."""

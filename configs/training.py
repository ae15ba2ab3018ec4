"""What a training run is."""

from dataclasses import dataclass, field
from pathlib import Path

from configs.run_directory import OUTPUTS
from policies.imitation.config import TrainConfig
from vla.backbones.nano import NanoConfig
from vla.config import BackboneConfig, HeadConfig
from vla.heads.bridge import BridgeConfig


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
    """Side of the square images that the network sees; by default the recorded size."""
    horizon: int = 8
    """Actions per chunk."""
    backbone: BackboneConfig = field(default_factory=NanoConfig)
    """Its sizes, and the weights that it starts from (backbone.weights) unless init_from or init_backbone names others:
    shipped are the package's own, which have learned to look, fresh are none."""
    head: HeadConfig = field(default_factory=BridgeConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    init_from: Path | None = None
    """A run, or a policy in it, whose weights to start from; they keep the normalisation that they were trained with,
    and their text window unless backbone.max_text_tokens says it. Optimiser and schedule are fresh."""
    init_backbone: Path | None = None
    """A run of vla pretrain, or a backbone in it, to look with from the first step: what fits of it is taken over."""
    outputs: Path = OUTPUTS
    """Folder that holds the runs."""

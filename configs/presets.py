"""Complete training configs by name: what a preset fixes is written out in one function."""

from configs.training import Config
from policies.imitation.config import TrainConfig
from vla.backbones.nano import NanoConfig
from vla.heads.bridge import BridgeConfig
from vla.heads.mlp import MLPConfig

LAPTOP = TrainConfig(steps=3600, locate_steps=1400, lr=2e-3, warmup_steps=50, save_every=500, threads=1)
"""Training that fits a laptop's CPU; a second thread gains little there and loses much when anything else runs."""


def nano_bridge() -> Config:
    """The small vision-language network with the bridge head: the default."""
    return Config(name="nano-bridge", backbone=NanoConfig(), head=BridgeConfig(), train=LAPTOP)


def nano_mlp() -> Config:
    """The same network with a plain MLP on its last layer: the baseline of the bridge head."""
    return Config(name="nano-mlp", backbone=NanoConfig(), head=MLPConfig(), train=LAPTOP)


def debug() -> Config:
    """A tiny network and a few steps: does everything hold together?"""
    return Config(
        name="debug",
        backbone=NanoConfig(
            width=32, depth=2, heads=2, n_queries=2, channels=8, blocks=1, keypoints=2, keypoints_per_token=1
        ),
        head=BridgeConfig(heads=2),
        train=TrainConfig(steps=20, locate_steps=5, batch_size=8, warmup_steps=2, log_every=5, save_every=10),
    )


PRESETS = {"nano-bridge": nano_bridge, "nano-mlp": nano_mlp, "debug": debug}

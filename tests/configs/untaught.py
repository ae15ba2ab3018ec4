"""A tiny policy for the simulated arm that has learned nothing."""

from pathlib import Path

import numpy as np
import torch

from configs.environments import make_env
from configs.worlds import EnvConfig
from envs.specs import EmbodimentSpec
from policies.data.statistics import DatasetStatistics, FieldStatistics
from policies.processors import Normalization, NormalizationMode
from policies.vla_policy import VLAPolicy
from vla.backbones.nano import NanoConfig
from vla.config import VLAConfig
from vla.heads.bridge import BridgeConfig

TINY = NanoConfig(
    weights="fresh", width=16, depth=1, heads=2, n_queries=2, channels=8, blocks=1, keypoints=2, keypoints_per_token=1
)


def save_untaught(folder: Path, embodiment: EmbodimentSpec | None = None) -> Path:
    """Random weights, with a head that has no distribution, saved in ``folder``, which is returned.

    They are for the robot of ``embodiment``, by default ours with pictures of 32 px.
    """
    embodiment = embodiment or _ours()
    rng, spans = np.random.default_rng(0), {"state": embodiment.state_dim, "action": embodiment.action_dim}
    fields = {name: FieldStatistics.of(rng.uniform(-1, 1, size=(50, dim))) for name, dim in spans.items()}
    statistics = DatasetStatistics(episodes=1, frames=50, **fields)
    modes = {"state": NormalizationMode.MEAN_STD, "action": NormalizationMode.MIN_MAX}
    torch.manual_seed(0)
    network = VLAConfig(
        backbone=TINY,
        head=BridgeConfig(heads=2),
        cameras=embodiment.camera_names,
        image_size_px=(embodiment.cameras[0].height_px, embodiment.cameras[0].width_px),
        state_dim=embodiment.state_dim,
        action_dim=embodiment.action_dim,
        horizon=4,
    )
    VLAPolicy(network.build(), Normalization.from_statistics(statistics, embodiment, **modes), embodiment).save(folder)
    return folder


def _ours() -> EmbodimentSpec:
    env = make_env("reach", 1, stream="learn", config=EnvConfig(image_size_px=32, threads=1))
    env.close()
    return env.embodiment

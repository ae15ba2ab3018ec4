"""A tiny run: point-mass demonstrations by the expert, and settings that train in a second."""

import numpy as np
import torch
from point_mass import PointMassEnv, point_mass_embodiment

from policies.collect import ExecutionNoise, collect
from policies.data.statistics import DatasetStatistics, FieldStatistics
from policies.expert import ExpertPolicy
from policies.imitation.config import TrainConfig
from policies.imitation.stages import Stage
from policies.processors import Normalization, NormalizationMode
from policies.vla_policy import VLAPolicy
from vla.backbones.nano import NanoConfig
from vla.config import VLAConfig
from vla.heads.bridge import BridgeConfig
from vla.heads.chat import ChatConfig
from vla.heads.flow import FlowConfig
from vla.heads.gaussian import GaussianConfig
from vla.heads.mapper import MapperConfig
from vla.heads.mlp import MLPConfig
from vla.heads.tokens import TokensConfig
from vla.objectives import LossWeights
from vla.observation import ActionChunk

TINY_HEADS = {
    "bridge": BridgeConfig(heads=2),
    "mlp": MLPConfig(width=16),
    "gaussian": GaussianConfig(mean="mlp", width=16),
    "tokens": TokensConfig(bins=16),
    "flow": FlowConfig(width=16, heads=2, steps=3),
    "chat": ChatConfig(width=16, longest=10),
    "mapper": MapperConfig(width=16),
}
"""One of each kind that there is."""
FAST = TokensConfig(binning="fast", vocabulary=64, scale=3.0)


def record(path, seeds=range(12), num_envs=6):
    env = PointMassEnv(num_envs)
    collect(env, ExpertPolicy(env), path, seeds, noise=ExecutionNoise(std=0.3), show_progress=False)
    return path


def tiny_network(horizon=4, cameras=("front",), head=None):
    backbone = NanoConfig(
        weights="fresh",
        width=16,
        depth=1,
        heads=2,
        n_queries=horizon if isinstance(head, MapperConfig) else 2,
        channels=8,
        blocks=1,
        keypoints=2,
        keypoints_per_token=1,
        patch_px=8,
        max_text_tokens=10,
    )
    return VLAConfig(
        backbone=backbone,
        head=head or MLPConfig(),
        cameras=cameras,
        image_size_px=(16, 16),
        state_dim=2,
        action_dim=2,
        horizon=horizon,
        waypoint_dims=(0, 1),
    )


def look_then_move():
    """7 of 20 steps for the waypoint alone, 13 for everything; both warm up for 4."""
    look = Stage(share=0.35, weights=LossWeights(action=0), frames="motion_starts", warmup_steps=4)
    return look, Stage(share=0.65, warmup_steps=4)


def tiny_training(**fields):
    return TrainConfig(
        **{
            "steps": 20,
            "stages": look_then_move(),
            "batch_size": 8,
            "log_every": 3,
            "save_every": 5,
            **fields,
        }
    )


def tiny_policy(replan_interval=2, head=None):
    """Random weights, statistics of random numbers; what a head measures is that of random chunks."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    statistics = DatasetStatistics(
        episodes=1,
        frames=50,
        state=FieldStatistics.of(rng.normal(size=(50, 2))),
        action=FieldStatistics.of(rng.uniform(-0.8, 0.8, size=(50, 2))),
    )
    modes = {"state": NormalizationMode.MEAN_STD, "action": NormalizationMode.MIN_MAX}
    normalization = Normalization.from_statistics(statistics, point_mass_embodiment(), **modes)
    vla = tiny_network(head=head).build()
    source = torch.Generator().manual_seed(0)
    chunks = torch.randn(100, 4, 2, generator=source)
    vla.head.fit(ActionChunk(actions=chunks, valid=torch.ones(100, 4, dtype=torch.bool)))
    with torch.no_grad():
        for parameter in vla.head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return VLAPolicy(vla, normalization, point_mass_embodiment(), replan_interval)

"""A tiny run: point-mass demonstrations by the expert, and settings that train in a second."""

from point_mass import PointMassEnv

from policies.collect import ExecutionNoise, collect
from policies.expert import ExpertPolicy
from policies.imitation.config import TrainConfig
from policies.imitation.stages import Stage
from vla.backbones.nano import NanoConfig
from vla.config import VLAConfig
from vla.heads.mlp import MLPConfig
from vla.objectives import LossWeights


def record(path, seeds=range(12), num_envs=6):
    env = PointMassEnv(num_envs)
    collect(env, ExpertPolicy(env), path, seeds, noise=ExecutionNoise(std=0.3), show_progress=False)
    return path


def tiny_network(horizon=4, cameras=("front",)):
    backbone = NanoConfig(
        width=16,
        depth=1,
        heads=2,
        n_queries=2,
        channels=8,
        blocks=1,
        keypoints=2,
        keypoints_per_token=1,
        patch_px=8,
        max_text_tokens=10,
    )
    return VLAConfig(
        backbone=backbone,
        head=MLPConfig(),
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

"""A tiny run: point-mass demonstrations by the expert, and settings that train in a second."""

from point_mass import PointMassEnv

from policies.collect import ExecutionNoise, collect
from policies.expert import ExpertPolicy
from policies.imitation.config import TrainConfig
from vla.backbones.nano import NanoConfig
from vla.heads.mlp import MLPConfig
from vla.model import VLAConfig


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


def tiny_training(**fields):
    return TrainConfig(
        **{
            "steps": 20,
            "locate_steps": 7,
            "warmup_steps": 4,
            "batch_size": 8,
            "log_every": 3,
            "save_every": 5,
            **fields,
        }
    )

"""Perturbed worlds for the tests of every axis."""

import torch

from envs.specs import image_key
from envs.vector import TaskEnv

SEEDS = [11, 12, 13]
FRONT, WRIST = image_key("front"), image_key("wrist")


def start(perturbation, task="place", seeds=SEEDS, **settings):
    settings = {"image_size_px": (48, 48), **settings}
    env = TaskEnv(task, len(seeds), perturbation=perturbation, **settings)
    return env, env.reset(seeds)


def field_of(env, name):
    """A field of each world's model, (n, …), on either engine."""
    if hasattr(env.world, "_models"):
        return torch.stack([torch.tensor(getattr(model, name), dtype=torch.float32) for model in env.world._models])
    return env.world._simulation.field(name).float()

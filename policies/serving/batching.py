"""The crossing between one numpy observation (robot, wire) and a torch batch (policy, environment)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from envs.specs import TASK_KEY


def batch_of_one(observation: Mapping[str, Any]) -> dict[str, Any]:
    """Add the batch axis: arrays become tensors ``(1, …)`` that own their memory, ``task`` a list of one."""
    return {
        key: [value] if key == TASK_KEY else torch.from_numpy(np.array(value))[None]
        for key, value in observation.items()
    }


def world_of(observation: Mapping[str, Any], world: int) -> dict[str, Any]:
    """The unbatched numpy observation of one world; the inverse of :func:`batch_of_one` for world 0."""
    return {key: value[world] if key == TASK_KEY else value[world].cpu().numpy() for key, value in observation.items()}

"""The crossing between single numpy observations (robot, wire) and a torch batch (policy, environment)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from envs.specs import TASK_KEY
from policies.policy import Underway
from policies.serving.underway import RunningChunk


def batch_of(observations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add the batch axis: arrays become tensors ``(n, …)`` that own their memory, ``task`` a list of n.

    All of them have the keys of the first.
    """
    return {
        key: [each[key] for each in observations]
        if key == TASK_KEY
        else torch.from_numpy(np.stack([each[key] for each in observations]))
        for key in observations[0]
    }


def underway_of(chunks: Sequence[RunningChunk]) -> Underway:
    """What n worlds go on doing, as a policy is told; shorter chunks are filled up with zeros."""
    longest = max(len(chunk.actions) for chunk in chunks)
    actions = torch.zeros(len(chunks), longest, chunks[0].actions.shape[1])
    for row, chunk in zip(actions, chunks, strict=True):
        row[: len(chunk.actions)] = torch.from_numpy(np.array(chunk.actions))
    length = torch.tensor([len(chunk.actions) for chunk in chunks])
    return Underway(actions, length, torch.tensor([chunk.delay_steps for chunk in chunks]))


def world_of(observation: Mapping[str, Any], world: int) -> dict[str, Any]:
    """The unbatched numpy observation of one world; the inverse of :func:`batch_of`."""
    return {key: value[world] if key == TASK_KEY else value[world].cpu().numpy() for key, value in observation.items()}

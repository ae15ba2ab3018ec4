"""Temporal ensembling: look every step, and act on the mean of all chunks that speak of now."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from policies.policy import Policy


class TemporalEnsemble(Policy):
    """Averages the overlapping chunks of ``policy`` (ACT, arXiv 2304.13705, section IV-A).

    At every step a fresh chunk is predicted; the action is the mean of what all chunks so far said of this
    step, the i-th oldest weighted by exp(−decay · i), so that a small ``decay`` lets new observations in
    faster. Its own horizon is 1, and each call of ``predict_chunk`` advances one step.
    """

    def __init__(self, policy: Policy, decay: float = 0.01) -> None:
        super().__init__(policy.embodiment, horizon=1, replan_interval=1)
        self.policy = policy
        self.decay = decay
        self._sum: Float[Tensor, "n h a"] | None = None
        self._weight: Float[Tensor, "n h"] | None = None
        self._chunks: Float[Tensor, "n h"] | None = None

    def remarks(self, instructions: Sequence[str]) -> list[str]:
        return self.policy.remarks(instructions)

    def reset(self, mask: Bool[Tensor, " n"] | None = None) -> None:
        super().reset(mask)
        self.policy.reset(mask)
        if mask is None or self._sum is None or self._weight is None or self._chunks is None:
            self._sum = self._weight = self._chunks = None
            return
        for running in (self._sum, self._weight, self._chunks):
            running[mask.to(running.device)] = 0

    def predict_chunk(self, observation: Mapping[str, Any]) -> Float[Tensor, "n 1 a"]:
        chunk = self.policy.predict_chunk(observation)
        if self._sum is None or self._weight is None or self._chunks is None or len(self._sum) != len(chunk):
            self._sum = torch.zeros_like(chunk)
            self._weight, self._chunks = torch.zeros_like(chunk[..., 0]), torch.zeros_like(chunk[..., 0])
        weight = torch.exp(-self.decay * self._chunks)
        total, mass, count = self._sum + weight[..., None] * chunk, self._weight + weight, self._chunks + 1
        action = total[:, :1] / mass[:, :1, None]
        self._sum, self._weight, self._chunks = _advance(total), _advance(mass), _advance(count)
        return action


def _advance(running: Tensor) -> Tensor:
    """Drop the slot of the step now taken, append an empty one for the step that comes into view."""
    return torch.cat([running[:, 1:], torch.zeros_like(running[:, :1])], dim=1)

"""Temporal ensembling: look every step, and act on the mean of all chunks that speak of now."""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from policies.policy import Plan, Policy, State


class Running(NamedTuple, Generic[State]):
    """What an ensemble remembers: for each coming step the weighted sum of the actions that chunks gave it, the sum of
    their weights, and how many they were; and what the policy underneath remembers.
    """

    total: Float[Tensor, "n h a"]
    weight: Float[Tensor, "n h"]
    chunks: Float[Tensor, "n h"]
    inner: State


class TemporalEnsemble(Policy[Running[State]]):
    """Averages the overlapping chunks of ``policy`` (ACT, arXiv 2304.13705, section IV-A).

    At every step a fresh chunk is predicted; the action is the mean of what all chunks so far said of this
    step, the i-th oldest weighted by exp(−decay · i), so that a small ``decay`` lets new observations in
    faster. Its own horizon is 1, and each plan advances its worlds by one step.
    """

    def __init__(self, policy: Policy[State], decay: float = 0.01) -> None:
        if policy.paced and policy.replan_interval != 1:
            raise ValueError(
                "an ensemble looks at every step, and this policy tells time by its plans: expected one with a "
                f"replan_interval of 1, got {policy.replan_interval}"
            )
        super().__init__(policy.embodiment, horizon=1, replan_interval=1)
        self.policy = policy
        self.decay = decay

    def remarks(self, instructions: Sequence[str]) -> list[str]:
        return self.policy.remarks(instructions)

    def start(self, n: int) -> Running[State]:
        none = torch.zeros(n, self.policy.horizon)
        total = torch.zeros(n, self.policy.horizon, self.embodiment.action_dim)
        return Running(total, none, none, self.policy.start(n))

    def plan(
        self, state: Running[State], observation: Mapping[str, Any], mask: Bool[Tensor, " n"]
    ) -> tuple[Running[State], Plan]:
        inner, plan = self.policy.plan(state.inner, observation, mask)
        chunk = plan.actions
        mask = mask.to(chunk.device)
        total, mass, count = (each.to(chunk.device) for each in state[:3])
        weight = torch.exp(-self.decay * count) * mask[:, None]
        total, mass, count = total + weight[..., None] * chunk, mass + weight, count + mask[:, None]
        action = torch.where(mask[:, None, None], total[:, :1] / mass[:, :1, None], 0)
        kept = Running(_advanced(total, mask), _advanced(mass, mask), _advanced(count, mask), inner)
        return kept, Plan(action, mask.long())


def _advanced(running: Shaped[Tensor, "n h ..."], mask: Bool[Tensor, " n"]) -> Shaped[Tensor, "n h ..."]:
    """In the worlds of ``mask`` without the slot of the step now taken, with an empty one for what comes into view."""
    moved = torch.cat([running[:, 1:], torch.zeros_like(running[:, :1])], dim=1)
    return torch.where(mask.reshape(-1, *(1,) * (running.dim() - 1)), moved, running)

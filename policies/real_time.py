"""Real-time chunking: each plan goes on from the one that is being executed."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from policies.policy import Plan, Policy, seen_by, spread
from policies.vla_policy import VLAPolicy


class Executing(NamedTuple):
    """The chunk of every world, in the robot's units and from the moment of its next plan on, and how much of it there
    is: 0 before the first.
    """

    actions: Float[Tensor, "n h a"]
    known: Int[Tensor, " n"]


class RealTimeChunking(Policy[Executing]):
    """``policy``, whose network must be able to go on (a flow head), as a robot executes it that does not wait.

    While a plan is made, a robot executes ``delay`` more steps of the one before: so these are the first of the new
    plan, and the rest agrees with what is left of the old one (:mod:`vla.heads.real_time`). ``ValueError`` for a delay
    that a chunk does not bridge; the first plan of a network that cannot go on raises ``TypeError``.
    """

    def __init__(self, policy: VLAPolicy, delay: int) -> None:
        super().__init__(policy.embodiment, policy.horizon, policy.replan_interval)
        if not 0 <= delay <= min(self.horizon - self.replan_interval, self.replan_interval):
            raise ValueError(
                f"expected a delay of 0…{min(self.horizon - self.replan_interval, self.replan_interval)} steps for "
                f"plans of {self.horizon} actions every {self.replan_interval} steps, got {delay}"
            )
        self.policy, self.delay = policy, delay

    def remarks(self, instructions: Sequence[str]) -> list[str]:
        return self.policy.remarks(instructions)

    def start(self, n: int) -> Executing:
        return Executing(torch.zeros(n, self.horizon, self.embodiment.action_dim), torch.zeros(n, dtype=torch.long))

    def plan(
        self, state: Executing, observation: Mapping[str, Any], mask: Bool[Tensor, " n"]
    ) -> tuple[Executing, Plan]:
        known = state.known[mask.to(state.known.device)]
        actions = state.actions[mask.to(state.actions.device)]
        chunk = self.policy.go_on(seen_by(observation, mask), actions, fixed=known.clamp(max=self.delay), known=known)
        length = torch.full((len(chunk),), self.replan_interval, device=chunk.device)
        left = torch.cat([chunk[:, self.replan_interval :], torch.zeros_like(chunk[:, : self.replan_interval])], dim=1)
        asked = mask.to(chunk.device)
        kept = Executing(
            torch.where(asked[:, None, None], spread(left, mask), state.actions.to(chunk.device)),
            torch.where(asked, self.horizon - self.replan_interval, state.known.to(chunk.device)),
        )
        return kept, Plan(spread(chunk, mask), spread(length, mask))

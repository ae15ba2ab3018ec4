"""Carrying plans out: which worlds are due to look again, and which actions come next."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.specs import STATE_KEY
from policies.policy import Plan, Policy


class Execution:
    """``policy`` at work in n worlds from the beginning of their episodes, its memory and running plans included.

    A world is planned for when its plan is used up, so that worlds look at moments of their own.
    """

    def __init__(self, policy: Policy, n: int) -> None:
        self.policy = policy
        self._state = policy.start(n)
        self._cursor = torch.zeros(n, dtype=torch.long)
        self._length = torch.zeros(n, dtype=torch.long)
        self._actions: Float[Tensor, "n h a"] | None = None
        self.latest: Plan | None = None
        """What the policy planned last, for the worlds that were due then."""

    def due(self, running: Bool[Tensor, " n"] | None = None) -> Bool[Tensor, " n"]:
        """The worlds among ``running`` (all when None) whose plan is used up, on the host."""
        spent = self._cursor >= self._length
        return spent if running is None else spent & running

    def plan(self, observation: Mapping[str, Any], running: Bool[Tensor, " n"] | None = None) -> int:
        """Plan for the worlds that are due, if any; returns how many worlds that were."""
        due = self.due(running)
        if not bool(due.any()):
            return 0
        self._state, plan = self.policy.plan(self._state, observation, due)
        self._take_up(plan, due)
        self.latest = plan
        return int(due.sum())

    def advance(self, running: Bool[Tensor, " n"] | None = None, at_most: int | None = None) -> Float[Tensor, "n k a"]:
        """The actions of the next k steps, after which one of the ``running`` worlds is due (all count when None).

        k is ``at_most`` where that is less. Worlds that do not run are given zeros. Call :meth:`plan` first.
        """
        if self._actions is None:
            raise RuntimeError("plan before you advance")
        active = torch.ones_like(self._cursor, dtype=torch.bool) if running is None else running
        left = (self._length - self._cursor)[active]
        if not len(left) or int(left.min()) < 1:
            raise RuntimeError("advance needs worlds that run, with plans that are not used up")
        steps = min(int(left.min()), at_most or self.policy.horizon)
        rows = (self._cursor[:, None] + torch.arange(steps)).clamp(max=self.policy.horizon - 1)
        index = rows.to(self._actions.device)[..., None].expand(-1, -1, self._actions.shape[2])
        self._cursor = self._cursor + steps * active
        return self._actions.gather(1, index) * active.to(self._actions.device)[:, None, None]

    def act(self, observation: Mapping[str, Any]) -> Float[Tensor, "n a"]:
        """The next action of every world, for callers that step one at a time."""
        if len(observation[STATE_KEY]) != len(self._cursor):
            raise ValueError(f"expected {len(self._cursor)} worlds, got {len(observation[STATE_KEY])}")
        self.plan(observation)
        return self.advance(at_most=1)[:, 0]

    def _take_up(self, plan: Plan, due: Bool[Tensor, " n"]) -> None:
        length = plan.length.cpu()
        if not bool(((length >= 1) & (length <= plan.actions.shape[1]))[due].all()):
            raise ValueError(f"plans of {plan.actions.shape[1]} actions cannot last {length[due].tolist()} steps")
        there = due.to(plan.actions.device)[:, None, None]
        self._actions = plan.actions if self._actions is None else torch.where(there, plan.actions, self._actions)
        self._cursor = torch.where(due, 0, self._cursor)
        self._length = torch.where(due, length, self._length)

"""The simulator's scripted expert as a policy."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from jaxtyping import Bool
from torch import Tensor

from envs.specs import EXPERT, STATE_KEY, ExpertEnv, VectorEnv
from policies.policy import Plan, Policy


class ExpertPolicy(Policy[None]):
    """Does what the scripted expert of ``env`` would do now; it reads the simulator and not the images.

    It acts in the worlds of its own ``env`` alone, so the observation must come from there. What it remembers is the
    simulator's. ``ValueError`` for an environment that does not declare ``EXPERT``.
    """

    remembers = False

    def __init__(self, env: VectorEnv) -> None:
        if EXPERT not in env.capabilities:
            raise ValueError(f"{env.task_name} has no scripted expert; all it declares is {sorted(env.capabilities)}")
        super().__init__(env.embodiment, horizon=1, replan_interval=1)
        self.env = cast(ExpertEnv, env)

    def start(self, n: int) -> None:
        if n != self.env.num_envs:
            raise ValueError(f"the expert acts in its env's {self.env.num_envs} worlds, got {n}")

    def plan(self, state: None, observation: Mapping[str, Any], mask: Bool[Tensor, " n"]) -> tuple[None, Plan]:
        worlds = len(observation[STATE_KEY])
        if worlds != self.env.num_envs:
            raise ValueError(f"the expert acts in its env's {self.env.num_envs} worlds, got {worlds} observations")
        action = self.env.expert_action()[:, None]
        asked = mask.to(action.device)
        return None, Plan(torch.where(asked[:, None, None], action, 0), asked.long())

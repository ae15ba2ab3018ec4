"""The simulator's scripted expert as a policy."""

from collections.abc import Mapping
from typing import Any, cast

from jaxtyping import Float
from torch import Tensor

from envs.specs import EXPERT, STATE_KEY, ExpertEnv, VectorEnv
from policies.policy import Policy


class ExpertPolicy(Policy):
    """Does what the scripted expert of ``env`` would do now; it reads the simulator and not the images.

    It acts in the worlds of its own ``env`` alone, so the observation must come from there. ``ValueError`` for an
    environment that does not declare ``EXPERT``.
    """

    def __init__(self, env: VectorEnv) -> None:
        if EXPERT not in env.capabilities:
            raise ValueError(f"{env.task_name} has no scripted expert; all it declares is {sorted(env.capabilities)}")
        super().__init__(env.embodiment, horizon=1, replan_interval=1)
        self.env = cast(ExpertEnv, env)

    def predict_chunk(self, observation: Mapping[str, Any]) -> Float[Tensor, "n 1 a"]:
        worlds = len(observation[STATE_KEY])
        if worlds != self.env.num_envs:
            raise ValueError(f"the expert acts in its env's {self.env.num_envs} worlds, got {worlds} observations")
        return self.env.expert_action()[:, None]

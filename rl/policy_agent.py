"""What agents have in common that are the network of a policy that sees."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from policies.vla_policy import VLAPolicy
from rl.agent import Agent, Seen


class PolicyAgent(Agent[Seen]):
    """The network of ``policy``, which is shared. ``execute`` is by default its replan interval; ``ValueError`` for one
    that does not fit.
    """

    def __init__(self, policy: VLAPolicy, execute: int | None = None) -> None:
        super().__init__()
        self._normalization, self._base = policy.normalization, policy.base
        self.embodiment, self.horizon = policy.embodiment, policy.horizon
        self.execute = policy.replan_interval if execute is None else execute
        self.vla, self.inputs = policy.vla, policy.inputs
        self.acting()

    @torch.no_grad()
    def executable(self, actions: Float[Tensor, "n h a"]) -> Float[Tensor, "n h a"]:
        return self.inputs.executable(actions)

    @property
    def moving(self) -> Bool[Tensor, " a"]:
        """Which numbers do anything: those that the policy's data hold constant stay so, whatever is said of them."""
        return ~self._normalization.action.constant.to(self.inputs.device)

    def acting(self) -> VLAPolicy:
        return VLAPolicy(self.vla, self._normalization, self.embodiment, self.execute, base=self._base)

    def save(self, directory: Path) -> None:
        self.acting().save(directory)

    def settings(self) -> dict[str, Any]:
        return {"network": self.vla.config.to_dict(), "execute": self.execute}

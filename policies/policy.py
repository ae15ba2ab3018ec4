"""The policy API: what acts, be it a network, a scripted expert or a server far away."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.specs import STATE_KEY, EmbodimentSpec


class Policy(ABC):
    """Maps a batched observation (keys of ``envs.specs``) to actions in the embodiment's units.

    A policy decides once per *chunk*: ``predict_chunk`` gives the next ``horizon`` actions, of which
    the first ``replan_interval`` are executed before it looks again. ``act`` does this bookkeeping for
    callers that step one action at a time; vector evaluation hands whole chunks to the environment.
    """

    def __init__(self, embodiment: EmbodimentSpec, horizon: int, replan_interval: int) -> None:
        if not 1 <= replan_interval <= horizon:
            raise ValueError(f"replan_interval must lie in 1…{horizon} (the horizon), got {replan_interval}")
        self.embodiment = embodiment
        self.horizon = horizon
        self.replan_interval = replan_interval
        self._chunk: Tensor | None = None
        self._cursor: Tensor | None = None

    @abstractmethod
    def predict_chunk(self, observation: Mapping[str, Any]) -> Float[Tensor, "n h a"]:
        """The next ``horizon`` actions of every world, newest observation first used."""

    def remarks(self, instructions: Sequence[str]) -> list[str]:
        """What this policy cannot take in of what it was told, a sentence each; whoever makes it act shows them."""
        return []

    def reset(self, mask: Bool[Tensor, " n"] | None = None) -> None:
        """Forget the running chunk of the worlds in ``mask`` (all when None); call at episode starts."""
        if mask is None or self._cursor is None:
            self._chunk = self._cursor = None
        else:
            self._cursor[mask.to(self._cursor.device)] = self.replan_interval

    def act(self, observation: Mapping[str, Any]) -> Float[Tensor, "n a"]:
        """The next action of every world; re-plans the worlds whose chunk is used up."""
        n = len(observation[STATE_KEY])
        if self._cursor is None or self._chunk is None or len(self._cursor) != n:
            self._chunk = self.predict_chunk(observation)
            self._cursor = torch.zeros(n, dtype=torch.long, device=self._chunk.device)
        spent = self._cursor >= self.replan_interval
        if bool(spent.any()):
            fresh = self.predict_chunk(observation)
            self._chunk = torch.where(spent[:, None, None], fresh, self._chunk)
            self._cursor = torch.where(spent, 0, self._cursor)
        action = self._chunk[torch.arange(n, device=self._chunk.device), self._cursor]
        self._cursor = self._cursor + 1
        return action


def blank_remarks(instructions: Sequence[str]) -> list[str]:
    """What a policy that reads language remarks on instructions that say nothing."""
    blank = any(not text.strip() for text in instructions)
    return ["the instruction is empty, so the policy can only guess what to do"] if blank else []

"""What acts and is improved: from observations to what is kept of them, distributions over chunks, and robot units."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from jaxtyping import Bool, Float
from torch import Tensor, nn

from envs.specs import EmbodimentSpec
from policies.policy import Policy
from vla.distribution import Distribution
from vla.observation import ActionChunk

Looked = dict[str, Tensor]
"""What is kept of the observations of n worlds until it is learned from: tensors ``(n, …)`` by name."""
Seen = TypeVar("Seen")
"""What an agent makes of that, to say everything else from."""


class Agent(nn.Module, ABC, Generic[Seen]):
    """Draws chunks of ``horizon`` normalised actions, the first ``execute`` of which are executed.

    It is in evaluation mode all along, so that it says the same when it learns as when it acted.
    """

    embodiment: EmbodimentSpec
    horizon: int
    execute: int

    @abstractmethod
    def look(self, observation: Mapping[str, Any]) -> Looked:
        """What is worth keeping of raw observations, without gradient; ``ValueError`` for those that do not fit."""

    @abstractmethod
    def see(self, looked: Looked) -> Seen:
        """What the methods below need of some rows, with gradient where that reaches what learns."""

    @abstractmethod
    def distribution(self, seen: Seen) -> Distribution:
        """Over chunks."""

    @abstractmethod
    def summary(self, seen: Seen) -> Float[Tensor, "b d"]:
        """What a critic looks at."""

    @abstractmethod
    def loss(self, seen: Seen, target: ActionChunk) -> Float[Tensor, ""]:
        """Of imitating chunks, a mean over their valid actions."""

    @abstractmethod
    def executable(self, actions: Float[Tensor, "n h a"]) -> Float[Tensor, "n h a"]:
        """Normalised actions in the robot's units and within its bounds, without gradient."""

    @property
    def moving(self) -> Bool[Tensor, " a"] | None:
        """Which numbers of an action do anything; None where all do."""
        return None

    @abstractmethod
    def acting(self) -> Policy[Any]:
        """The policy, of the same network, which acts with the distribution's mode."""

    @abstractmethod
    def save(self, directory: Path) -> None:
        """Write that."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What the network is made of, JSON-ready."""

    def absorb(self, looked: Looked) -> dict[str, Tensor]:
        """Sums over an iteration's observations ``(t, n, …)`` for :meth:`take_in`; none by default."""
        return {}

    def take_in(self, sums: Mapping[str, Tensor]) -> None:
        """Update running statistics, after an iteration, by what :meth:`absorb` gave in all processes together."""

    def frozen_copy(self) -> "Agent[Seen]":
        """This agent as it is now; what does not learn is shared, and nothing of the copy learns."""
        shared: dict[int, Any] = {id(p): p for p in self.parameters() if not p.requires_grad}
        return copy.deepcopy(self, shared).requires_grad_(False)

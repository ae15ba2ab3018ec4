"""What a reward is to a learner, and how it is made of scores: as they are, as a potential, weighed and summed."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.specs import Transition


class Reward(Protocol):
    """Pays n worlds for each decision of a policy. What it keeps of running episodes is a dict of tensors."""

    name: str

    def start(
        self, observation: Mapping[str, Any], goals: Sequence[str], mask: Bool[Tensor, " n"] | None = None
    ) -> None:
        """Episodes begin in the worlds of ``mask`` (all when None); ``goals`` are sentences, one for each world."""
        ...

    def __call__(self, before: Mapping[str, Any], transition: Transition) -> Float[Tensor, " n"]:
        """What is paid at the last control step that each world took; 0 for worlds that took none.

        ``before`` is what the decision was made on, ``transition.observation`` what it led to: for a world whose
        episode has ended the last observation of that episode, never the first one of the next.
        """
        ...

    @property
    def scores(self) -> Float[Tensor, " n"]:
        """What it thinks of what each world showed last, the larger the better: not what it paid, which for a
        potential is little where an episode succeeds.
        """
        ...

    def memory(self) -> dict[str, Tensor]:
        """What is kept of the running episodes, for a checkpoint; :meth:`remember` puts it back."""
        ...

    def remember(self, memory: Mapping[str, Tensor], goals: Sequence[str]) -> None:
        """Go on from a :meth:`memory`, in worlds with these goals."""
        ...


class Scorer(Protocol):
    """Says of what n worlds show how well it fits their goals, whatever came before; the larger, the better."""

    name: str

    def __call__(self, observation: Mapping[str, Any], goals: Sequence[str]) -> Float[Tensor, " n"]: ...


class Scored:
    """The score of what a decision led to, paid as it is.

    A policy that lingers where the score is high earns more than one that finishes: see :class:`Shaped`.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.name, self.scorer = scorer.name, scorer
        self._goals: list[str] = []
        self.scores = torch.zeros(0)

    def start(
        self, observation: Mapping[str, Any], goals: Sequence[str], mask: Bool[Tensor, " n"] | None = None
    ) -> None:
        self._goals = merged(self._goals, goals, mask)

    def __call__(self, before: Mapping[str, Any], transition: Transition) -> Float[Tensor, " n"]:
        self.scores = self.scorer(transition.observation, self._goals)
        return self.scores.to(transition.reward.device) * (transition.steps > 0)

    def memory(self) -> dict[str, Tensor]:
        return {}

    def remember(self, memory: Mapping[str, Tensor], goals: Sequence[str]) -> None:
        self._goals = list(goals)


class Shaped:
    """γΦ(s′) − Φ(s) of every control step (Ng, Harada and Russell 1999), for a score Φ, so that no cycle earns.

    Φ is 0 where an episode terminates; where it is cut short, the value of its last observation is bootstrapped and Φ
    stays. Φ is known at decisions alone: over the k steps of one the sum is γᵏΦ(s′) − Φ(s), and what is paid at the
    last of them, which the learner discounts by γᵏ⁻¹, is γΦ(s′) − γ¹⁻ᵏΦ(s).
    """

    def __init__(self, scorer: Scorer, discount: float) -> None:
        if not 0 < discount <= 1:
            raise ValueError(f"expected a discount in 0 … 1 that is not 0, the learner's own, got {discount}")
        self.name, self.scorer, self.discount = f"{scorer.name}-shaped", scorer, discount
        self._goals: list[str] = []
        self._potential: Float[Tensor, " n"] | None = None
        self.scores = torch.zeros(0)

    def start(
        self, observation: Mapping[str, Any], goals: Sequence[str], mask: Bool[Tensor, " n"] | None = None
    ) -> None:
        self._goals = merged(self._goals, goals, mask)
        potential = self.scorer(observation, self._goals).float()
        if mask is not None and self._potential is not None:
            potential = torch.where(mask.to(potential.device), potential, self._potential)
        self._potential = potential

    def __call__(self, before: Mapping[str, Any], transition: Transition) -> Float[Tensor, " n"]:
        if self._potential is None:
            raise RuntimeError("start episodes before paying for decisions")
        steps, behind = transition.steps, self._potential.to(transition.reward)
        self.scores = self.scorer(transition.observation, self._goals).to(behind)
        ahead = self.scores.masked_fill(transition.terminated, 0.0)
        moved = steps > 0
        paid = self.discount * ahead - self.discount ** (1 - steps).to(behind) * behind
        self._potential = torch.where(moved, ahead, behind)
        return torch.where(moved, paid, 0.0)

    def memory(self) -> dict[str, Tensor]:
        return {} if self._potential is None else {"potential": self._potential}

    def remember(self, memory: Mapping[str, Tensor], goals: Sequence[str]) -> None:
        self._goals, self._potential = list(goals), memory.get("potential")


class Weighed:
    """The sum of rewards, each with its weight. ``parts`` holds what each of them paid last, by its name."""

    def __init__(self, rewards: Sequence[tuple[float, Reward]]) -> None:
        names = [reward.name for _, reward in rewards]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"expected at least one reward, and a name of its own for each, got {names}")
        self.name, self._rewards = "+".join(names), tuple(rewards)
        self.parts: dict[str, Float[Tensor, " n"]] = {}

    def start(
        self, observation: Mapping[str, Any], goals: Sequence[str], mask: Bool[Tensor, " n"] | None = None
    ) -> None:
        for _, reward in self._rewards:
            reward.start(observation, goals, mask)

    def __call__(self, before: Mapping[str, Any], transition: Transition) -> Float[Tensor, " n"]:
        self.parts = {reward.name: weight * reward(before, transition) for weight, reward in self._rewards}
        return torch.stack(list(self.parts.values())).sum(dim=0)

    @property
    def scores(self) -> Float[Tensor, " n"]:
        return torch.stack([weight * reward.scores for weight, reward in self._rewards]).sum(dim=0)

    def memory(self) -> dict[str, Tensor]:
        return {
            f"{reward.name}.{key}": tensor for _, reward in self._rewards for key, tensor in reward.memory().items()
        }

    def remember(self, memory: Mapping[str, Tensor], goals: Sequence[str]) -> None:
        for _, reward in self._rewards:
            prefix = f"{reward.name}."
            own = {key.removeprefix(prefix): tensor for key, tensor in memory.items() if key.startswith(prefix)}
            reward.remember(own, goals)


def merged(known: Sequence[str], goals: Sequence[str], mask: Bool[Tensor, " n"] | None) -> list[str]:
    """``goals`` in the worlds of ``mask`` (all when None), and what was ``known`` in the others."""
    if mask is None or not known:
        return list(goals)
    if not len(known) == len(goals) == len(mask):
        raise ValueError(f"expected goals of {len(known)} worlds and a mask of them, got {len(goals)} and {len(mask)}")
    return [new if begins else old for old, new, begins in zip(known, goals, mask.tolist(), strict=True)]

"""What a head becomes in the course of one episode."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from rl.agent import Looked
from rl.feedback.config import FeedbackConfig
from rl.levels import at_level
from rl.vla_agent import VLAAgent
from vla.distribution import Distribution, Sample
from vla.head import Head


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A head that an episode has changed, with the moments of its optimiser; never changed in place."""

    head: Head[Any]
    moments: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """k chunks for what was ``looked`` at, a row for each, by their ``latent``, and what each was worth."""

    looked: Looked
    latent: Shaped[Tensor, "k ..."]
    reward: Float[Tensor, " k"]


class HeadLearner:
    """Improves heads of ``agent``, one world's at a time; the agent's own stays as it is."""

    def __init__(self, agent: VLAAgent, config: FeedbackConfig) -> None:
        self._agent, self._config = agent, config

    def draw(self, learned: Learned | None, looked: Looked, draws: torch.Generator) -> Sample:
        """A chunk for each row of ``looked``."""
        with torch.no_grad():
            return self._distribution(self._head(learned), looked).sample(draws)

    def decide(self, learned: Learned | None, looked: Looked) -> Float[Tensor, "b h a"]:
        """What the head now acts with: the mode of its distribution."""
        with torch.no_grad():
            return self._distribution(self._head(learned), looked).mode().actions

    def improve(self, learned: Learned | None, tried: Candidates) -> Learned | None:
        """One step on mean (r − r̄) · −log p over the candidates; none where they are all worth the same.

        The log-probability is that of what is executed of a chunk.
        """
        advantage = tried.reward - tried.reward.mean()
        if not bool(advantage.any()):
            return learned
        head = copy.deepcopy(self._head(learned)).requires_grad_(True)
        optimizer = torch.optim.AdamW(head.parameters(), lr=self._config.lr, weight_decay=self._config.weight_decay)
        if learned is not None:
            optimizer.load_state_dict(copy.deepcopy(learned.moments))
        with torch.enable_grad():
            loss = -(advantage * self._log_prob(head, tried)).mean()
            loss.backward()
        optimizer.step()
        return Learned(head=head.requires_grad_(False), moments=optimizer.state_dict())

    def _log_prob(self, head: Head[Any], tried: Candidates) -> Float[Tensor, " k"]:
        distribution = self._distribution(head, tried.looked)
        executed: Int[Tensor, " k"] = torch.full((len(tried.reward),), self._agent.execute, device=tried.reward.device)
        parts = distribution.log_prob(tried.latent)
        return at_level(parts, "chunk", executed, distribution.action_axis, self._agent.moving)[0][:, 0]

    def _head(self, learned: Learned | None) -> Head[Any]:
        return self._agent.vla.head if learned is None else learned.head

    def _distribution(self, head: Head[Any], looked: Looked) -> Distribution:
        return head.distribution(self._agent.see(looked).by_the_head)


def repeated(looked: Looked, row: int, times: int) -> Looked:
    """One row of what was looked at, so many times."""
    return {name: kept[row : row + 1].expand(times, *kept.shape[1:]) for name, kept in looked.items()}


def joined(rows: list[Looked]) -> Looked:
    """The rows of several, one after the other."""
    return {name: torch.cat([each[name] for each in rows]) for name in rows[0]}

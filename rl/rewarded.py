"""What learners from reward have in common: an agent that is tried out where it does not learn, and critics."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from policies.imitation.evaluating import SUCCESS, Best, Evaluator, report_of
from policies.training.learner import Learner
from policies.training.seeding import random_state_kept
from rl.agent import Agent
from rl.config import RLConfig

EVALUATED = "evaluated/"
"""What the names of success rates in an evaluation begin with; those of its own episodes begin with ``success/``."""


class RewardedLearner(Learner[RLConfig]):
    """Lets an evaluator, if it has one, say how often its ``agent`` succeeds, and remembers when it did ``best``."""

    agent: Agent
    legs: Sequence[int]
    best: Best | None
    _evaluator: Evaluator | None

    @abstractmethod
    def is_critic(self, name: str) -> bool:
        """Whether a parameter of this name is a critic's."""

    @abstractmethod
    def close(self) -> None:
        """Stop what works beside it; safe to call twice."""

    def examine(self, done: int) -> dict[str, float]:
        """How often the policy succeeds where it does not learn, ``evaluated/TASK``, with each interval's bounds."""
        evaluator = self._evaluator
        if evaluator is None or not self.carries(done):
            return {}
        with random_state_kept(self.device), self.average.applied():
            won = evaluator.outcomes(self.agent.acting())
        self.best = Best.of(done, won, evaluator.about).unless(self.best)
        return {f"{EVALUATED}{name.removeprefix(SUCCESS)}": rate for name, rate in report_of(won).items()}

    def carries(self, done: int) -> bool:
        evaluator = self._evaluator
        return evaluator is not None and (done % evaluator.every == 0 or done == self.legs[-1])

    @property
    def best_step(self) -> int | None:
        return None if self.best is None else self.best.step

    def clip(self) -> Tensor:
        """The critic's gradient and the policy's apart: neither slows the other down."""
        norms = []
        for critic in (False, True):
            chosen = [p for name, p in self.parameters.items() if self.is_critic(name) == critic]
            if chosen:
                norms.append(torch.nn.utils.clip_grad_norm_(chosen, self.config.grad_clip))
        return norms[0]

    def save(self, directory: Path) -> None:
        with self.average.applied():
            self.agent.save(directory)

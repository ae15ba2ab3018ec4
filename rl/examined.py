"""Learners from reward that are tried out where they do not learn."""

from collections.abc import Sequence

from policies.imitation.evaluating import SUCCESS, Best, Evaluator, report_of
from policies.training.learner import Learner
from policies.training.seeding import random_state_kept
from rl.agent import Agent
from rl.config import RLConfig

EVALUATED = "evaluated/"
"""What the names of success rates in an evaluation begin with; those of its own episodes begin with ``success/``."""


class ExaminedLearner(Learner[RLConfig]):
    """Lets an evaluator, if it has one, say how often its ``agent`` succeeds, and remembers when it did ``best``."""

    agent: Agent
    legs: Sequence[int]
    best: Best | None
    _evaluator: Evaluator | None

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

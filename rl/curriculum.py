"""Which tasks to practise: the more often, the more there is to learn from them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Rule = Literal["half", "published"]


@dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """Of :class:`TaskCurriculum`.

    A task whose rate of success is s has a weight in proportion to exp(−|s − 0.5| / ``temperature``) under the ``rule``
    "half", which prefers what succeeds every other time. That is what VLA-RL (Lu et al. 2025, arXiv 2505.18719) says it
    wants; its formula, exp((0.5 − s) / ``temperature``), is the rule "published", and prefers what never succeeds.

    s is the mean over episodes, with ``start`` as if it were one, and later a moving average in which a new one counts
    at least ``rate``.
    """

    rule: Rule = "half"
    temperature: float = 0.5
    rate: float = 0.05
    start: float = 0.5

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise ValueError(f"expected a curriculum's rule out of {', '.join(get_args(Rule))}, got {self.rule!r}")
        if not (0 < self.temperature < math.inf and 0 < self.rate <= 1 and 0 <= self.start <= 1):
            raise ValueError(
                "expected a curriculum's temperature above 0, rate above 0 and at most 1, and start 0 … 1, "
                f"got {self.temperature}, {self.rate} and {self.start}"
            )

    def build(self, tasks: Sequence[str]) -> "TaskCurriculum":
        """One that has seen no episode; ``ValueError`` for no tasks, or the same twice."""
        if not tasks or len(set(tasks)) != len(tasks):
            raise ValueError(f"a curriculum needs different tasks, got {list(tasks)}")
        return TaskCurriculum(
            config=self, tasks=tuple(tasks), success=(self.start,) * len(tasks), episodes=(0,) * len(tasks)
        )


@dataclass(frozen=True, kw_only=True)
class TaskCurriculum:
    """How often each of ``tasks`` succeeds at present, by how many ``episodes`` of it. A value: what has seen more is
    another one.
    """

    config: CurriculumConfig
    tasks: tuple[str, ...]
    success: tuple[float, ...]
    episodes: tuple[int, ...]

    @property
    def weights(self) -> tuple[float, ...]:
        """How often each task is to be drawn; their sum is 1."""
        rule, temperature = self.config.rule, self.config.temperature
        exponents = [(-abs(s - 0.5) if rule == "half" else 0.5 - s) / temperature for s in self.success]
        largest = max(exponents)
        shares = [math.exp(exponent - largest) for exponent in exponents]
        return tuple(share / sum(shares) for share in shares)

    def tally(self, task: Int[Tensor, " b"], success: Bool[Tensor, " b"]) -> Int[Tensor, "m 2"]:
        """Episodes and successes of each task, among those of which ``task`` says the index. Those of several processes
        are to be added up.
        """
        counts = torch.zeros(len(self.tasks), 2, dtype=torch.long, device=task.device)
        return counts.index_add_(0, task, torch.stack([torch.ones_like(success), success], dim=1).long())

    def after(self, tally: Int[Tensor, "m 2"]) -> "TaskCurriculum":
        """One that has seen those episodes too; their order does not matter."""
        success, episodes = list(self.success), list(self.episodes)
        for i, (new, succeeded) in enumerate(tally.tolist()):
            if new:
                kept = min((1 - self.config.rate) ** new, (1 + episodes[i]) / (1 + episodes[i] + new))
                success[i] = kept * success[i] + (1 - kept) * succeeded / new
                episodes[i] += new
        return replace(self, success=tuple(success), episodes=tuple(episodes))

    def memory(self) -> dict[str, Any]:
        """What :meth:`recall` needs, JSON-ready."""
        return {
            "success": dict(zip(self.tasks, self.success, strict=True)),
            "episodes": dict(zip(self.tasks, self.episodes, strict=True)),
        }

    def recall(self, memory: Mapping[str, Any]) -> "TaskCurriculum":
        """The one whose :meth:`memory` it is, to the last bit; ``ValueError`` where that had other tasks."""
        if set(memory["success"]) != set(self.tasks):
            raise ValueError(f"expected a curriculum of {sorted(self.tasks)}, got one of {sorted(memory['success'])}")
        return replace(
            self,
            success=tuple(memory["success"][task] for task in self.tasks),
            episodes=tuple(memory["episodes"][task] for task in self.tasks),
        )

"""The settings of a sequence of tasks that a policy learns one after the other."""

from dataclasses import dataclass
from typing import Literal

from vla.adapters.pool import PoolConfig

Method = Literal["full", "lora", "l2m", "codyra"]
"""What learns; see :mod:`policies.imitation.lifelong.methods`."""


@dataclass(frozen=True, kw_only=True)
class LifelongConfig:
    """Tasks to learn one after the other, each with the same share of the run's steps; none: all at once, as usual."""

    tasks: tuple[str, ...] = ()
    """The tasks in order, as the data name them. Of each only its own demonstrations are learned from in its turn, and
    of the tasks before it what replay says. The first one's measure what is not yet measured of the robot's numbers."""
    method: Method = "full"
    """What learns: full is the whole network; lora low-rank updates of all linear layers, merged into the weights after
    each task; codyra the same with an importance for each rank, which shrinks to nothing where the task does not need
    it; l2m a pool of updates beside a network that stays as it is, of which each sample's words choose one."""
    replay: float = 0.0
    """Share of every batch that is drawn from the demonstrations of the tasks before, 0 … 1 without the 1."""
    rewarm: float = 0.1
    """Share of a task's steps in which the learning rate rises anew before it falls again, within each task; 0: it
    rises and falls once, over all tasks."""
    rank: int = 8
    """Of the low-rank updates (lora, l2m, codyra)."""
    pool: int = 30
    """l2m: how many updates there are to choose from."""
    key_rate: float = 50.0
    """l2m: what multiplies the learning rate of the keys that updates are chosen by. A short training would else leave
    them where they are drawn."""
    shrink: float = 0.6
    """codyra: by how much all importances, N(0, 1) at first, are shrunk towards 0 in a task, all steps together."""
    episodes: int = 20
    """Episodes of every task in simulation before the first task and after each of them, which the learning and
    forgetting curves are made of, on phrasings and worlds of evaluate; 0: none."""

    def __post_init__(self) -> None:
        if len(self.tasks) == 1 or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"expected a sequence of two tasks or more, each once, got {list(self.tasks)}")
        for name in ("replay", "rewarm"):
            if not 0 <= (given := getattr(self, name)) < 1:
                raise ValueError(f"lifelong.{name} is a share: expected 0 or more and less than 1, got {given}")
        if self.rank < 1:
            raise ValueError(f"lifelong.rank must be at least 1, got {self.rank}")
        if self.pool < 1:
            raise ValueError(f"lifelong.pool must hold at least 1 update, got {self.pool}")
        if self.shrink < 0 or self.key_rate <= 0 or self.episodes < 0:
            raise ValueError(
                "expected lifelong.shrink and lifelong.episodes of 0 or more and a positive lifelong.key_rate, got "
                f"{self.shrink}, {self.episodes} and {self.key_rate}"
            )

    def __bool__(self) -> bool:
        """Whether there is a sequence."""
        return bool(self.tasks)

    @property
    def pool_config(self) -> PoolConfig | None:
        """What the network is to be modulated by, if by anything."""
        return PoolConfig(size=self.pool, rank=self.rank) if self.tasks and self.method == "l2m" else None

    def ends(self, steps: int) -> tuple[int, ...]:
        """After how many of a run's ``steps`` each task ends; ``ValueError`` where one would have none."""
        count = len(self.tasks)
        if steps < count:
            raise ValueError(f"expected at least a step for each of {count} tasks, got {steps} steps for all of them")
        return tuple(round(steps * (index + 1) / count) for index in range(count))

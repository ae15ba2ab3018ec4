"""The settings of one run of learning from reward."""

from dataclasses import dataclass, field
from typing import Literal

from policies.training.learner import FREE_TO_CHANGE as FREE_IN_ANY_RUN
from policies.training.schedule import check_rates
from rl.curriculum import CurriculumConfig
from rl.levels import Level
from rl.losses import Over

Advantages = Literal["gae", "grpo", "rloo", "none"]
"""``gae``: what a critic did not expect. ``grpo``, ``rloo``: how an episode compares with others from the same start.
``none``: nothing but imitation of one's own successes."""


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """The critic, an MLP of ``layers`` hidden layers of ``width`` on what the policy sees.

    It learns at a rate of its own; for ``warmup`` iterations it learns alone, and the policy waits. With ``detach`` it
    does not reshape what it looks at (VL-DAC, arXiv 2508.04280). ``clip`` bounds how far values move from the old ones
    in an iteration, beyond ``huber`` errors count linearly; None for neither. ``norm`` scales what it looks at to zero
    mean and unit deviation over its numbers, which features need and a few numbers do not bear: two are then one.
    """

    width: int = 256
    layers: int = 2
    lr: float = 1e-3
    warmup: int = 2
    detach: bool = True
    weight: float = 0.5
    clip: float | None = None
    huber: float | None = 10.0
    norm: bool = True

    def __post_init__(self) -> None:
        if min(self.width, self.layers) < 1 or self.warmup < 0 or not min(self.lr, self.weight) > 0:
            raise ValueError(f"expected positive width, layers, lr and weight of the critic and warmup ≥ 0, got {self}")


@dataclass(frozen=True, kw_only=True)
class RLConfig:
    """How a policy is improved by reward; a run has so many ``iterations`` of collecting and learning.

    A decision draws a chunk, of which ``execute`` actions (by default the policy's own replan interval) are executed.
    Under ``gae`` each of ``num_envs`` worlds makes ``decisions`` decisions per iteration, episode after episode.
    Otherwise each has one whole episode per iteration, and ``group_size`` neighbours share their start.

    ``level``, ``over``, ``clip_low``, ``clip_high``, ``dual_clip`` and ``log_ratio_limit`` are those of the policy's
    loss (:mod:`rl.losses`). An iteration learns from its decisions ``epochs`` times, in ``minibatches``, and stops when
    the policy has moved by more than ``target_kl`` in the mean over an epoch; with ``adapt_lr``, the policy's rate then
    falls, and rises where it has moved by less than a quarter of that in the last epoch. ``entropy`` and
    ``reference_kl`` are weights of a bonus for spread and of a pull towards the policy that the run started from;
    ``imitate`` that of the head's own loss on what succeeded.

    With a ``staleness`` s above 0 worlds are acted in while the policy learns, by one at most s iterations older
    (:mod:`rl.background`), and the loss is that of decoupled PPO: the policy is kept near the one that an iteration
    began with, and what counts more than ``weight_limit`` times for having become likelier is dropped. Within
    ``patience_s`` seconds what acts must give a sign of life.

    ``frozen`` names parts of the network that do not learn. Where the whole backbone is among them, what it sees is
    worked out once, as the policy acts. ``std`` is the first spread, in normalised actions, of a policy that comes
    without a distribution. With ``weigh_tasks``, tasks are drawn as the ``curriculum`` has it. Worlds are dealt to
    ``shards`` with random numbers of their own (0: one for each process), so that as many ``processes`` as divide it
    give the same run.
    """

    iterations: int = 50
    num_envs: int = 64
    decisions: int = 16
    execute: int | None = None
    advantages: Advantages = "gae"
    group_size: int = 8
    discount: float = 0.99
    lam: float = 0.95
    staleness: int = 0
    weight_limit: float | None = 2.0
    patience_s: float = 300.0
    level: Level = "action"
    over: Over = "parts"
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    log_ratio_limit: float | None = None
    epochs: int = 4
    minibatches: int = 8
    target_kl: float | None = 0.03
    adapt_lr: bool = True
    entropy: float = 0.0
    reference_kl: float = 0.0
    imitate: float = 0.0
    std: float = 0.1
    critic: CriticConfig = field(default_factory=CriticConfig)
    weigh_tasks: bool = False
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    frozen: tuple[str, ...] = ("backbone",)
    lr: float = 1e-4
    min_lr_ratio: float = 1.0
    warmup_iterations: int = 0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float = 1.0
    ema_decay: float = 0.0
    shards: int = 0
    seed: int = 0
    log_every: int = 1
    save_every: int = 10
    keep_last: int = 2
    device: str = "cpu"
    processes: int = 1
    threads: int = 0

    def __post_init__(self) -> None:
        for name in ("iterations", "num_envs", "decisions", "epochs", "minibatches", "log_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.keep_last < 1 or self.processes < 1 or min(self.threads, self.shards, self.warmup_iterations) < 0:
            raise ValueError(f"expected keep_last and processes of at least 1 and no negative numbers, got {self}")
        check_rates(lr=self.lr, min_lr_ratio=self.min_lr_ratio, grad_clip=self.grad_clip, ema_decay=self.ema_decay)
        if not (0 < self.discount <= 1 and 0 <= self.lam <= 1):
            raise ValueError(f"discount must lie in (0, 1] and lam in [0, 1], got {self.discount} and {self.lam}")
        if min(self.entropy, self.reference_kl, self.imitate) < 0:
            raise ValueError("the weights entropy, reference_kl and imitate must not be negative")
        if self.staleness < 0 or not self.patience_s > 0 or not (self.weight_limit is None or self.weight_limit > 0):
            raise ValueError(
                "expected a staleness of at least 0, patience_s above 0 and weight_limit above 0 or none, got "
                f"{self.staleness}, {self.patience_s} and {self.weight_limit}"
            )
        if self.advantages == "none" and not self.imitate:
            raise ValueError("without advantages there is imitation alone: give imitate a weight")
        if self.alike > 1 and self.num_envs % self.group_size:
            raise ValueError(f"num_envs {self.num_envs} does not divide into groups of {self.group_size}")
        if self.advantages in ("grpo", "rloo") and self.group_size < 2:
            raise ValueError(f"{self.advantages} compares at least 2 episodes, got group_size {self.group_size}")

    @property
    def steps(self) -> int:
        return self.iterations

    @property
    def alike(self) -> int:
        """How many neighbouring worlds share the starts of their episodes."""
        return self.group_size if self.advantages in ("grpo", "rloo") else 1

    @property
    def whole_episodes(self) -> bool:
        return self.advantages != "gae"


FREE_TO_CHANGE = FREE_IN_ANY_RUN | {"iterations", "shards", "patience_s"}
"""Fields that a resumed run may set anew; ``shards`` are compared by what they come to."""

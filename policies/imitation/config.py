"""The settings of one imitation run."""

from dataclasses import dataclass, field
from typing import Literal

from policies.imitation.further import TeachersConfig, objectives_in
from policies.imitation.stages import Stage
from policies.processors import NormalizationMode
from policies.training.augment import AugmentConfig
from policies.training.learner import FREE_TO_CHANGE as FREE_IN_ANY_RUN
from policies.training.schedule import check_rates, check_shares


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a VLA is trained from demonstrations; ``steps`` are the optimiser's.

    ``batch_size`` is the batch of one optimiser step; ``accumulate`` cuts it into that many pieces, which
    changes the memory needed and not the gradient. ``precision`` ``bf16`` is autocast on CUDA and is
    refused elsewhere.
    ``stages`` share the steps among them; the learning rate falls from ``lr`` to ``lr · min_lr_ratio`` along half a
    cosine over all of them. Episodes that failed are learned from only with ``failures``. With ``task_weights`` tasks
    share the windows in proportion to their weights (1 for one that is not named, 0 leaves it out), however many
    windows each has; without any, every window is as likely as any other. Every ``save_every`` steps
    leave a checkpoint, of which the newest ``keep_last`` stay.

    ``validation_share`` of the episodes are never learned from (:mod:`policies.imitation.validation`). Every
    ``validate_every`` steps and at the end the losses of the averaged weights on ``validation_windows`` of their
    windows are reported.

    ``pictures`` says where they are read from, see ``WindowConfig.cache``. ``decoded`` pays where they do not fit into
    memory, by ``auto``'s measure: it writes them into the datasets' folders once, at their full size, instead of
    decoding whole chunks for the single frames of every batch. ``teachers`` are those of the objectives that stages
    weigh.
    """

    steps: int = 2000
    stages: tuple[Stage, ...] = (Stage(),)
    batch_size: int = 64
    accumulate: int = 1
    lr: float = 1e-3
    min_lr_ratio: float = 0.05
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float = 1.0
    ema_decay: float = 0.995
    precision: Literal["fp32", "bf16"] = "fp32"
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    state_normalization: NormalizationMode = NormalizationMode.MEAN_STD
    action_normalization: NormalizationMode = NormalizationMode.MIN_MAX
    teachers: TeachersConfig = field(default_factory=TeachersConfig)
    failures: bool = False
    task_weights: dict[str, float] = field(default_factory=dict)
    validation_share: float = 0.0
    validate_every: int = 500
    validation_windows: int = 512
    pictures: Literal["auto", "memory", "decoded", "disk"] = "auto"
    seed: int = 0
    log_every: int = 20
    save_every: int = 500
    keep_last: int = 2
    device: str = "cpu"
    processes: int = 1
    """How many processes of this machine learn together, each from its share of every batch and, on cuda, on a GPU of
    its own. What torchrun starts needs no such number."""
    shard: bool = False
    """Whether processes share the network out among them, so that weights, gradients and moments need to fit all of
    their devices together, not each (FSDP2)."""
    threads: int = 0
    """Threads of torch on the CPU in each process, where the network runs or, with a GPU, batches are made; 0 leaves
    torch's choice to one process, and shares the cores among several."""

    def __post_init__(self) -> None:
        counts = ("steps", "batch_size", "accumulate", "log_every", "save_every", "keep_last", "processes")
        for name in (*counts, "validate_every", "validation_windows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} does not divide into accumulate={self.accumulate} pieces")
        check_rates(lr=self.lr, min_lr_ratio=self.min_lr_ratio, grad_clip=self.grad_clip, ema_decay=self.ema_decay)
        check_shares(self.stages)
        objectives_in(self.stages)
        if not 0 <= self.validation_share < 1:
            raise ValueError(f"validation_share must lie in [0, 1), got {self.validation_share}")
        if self.shard and (len(self.stages) > 1 or self.validation_share):
            raise ValueError(
                "a network that is shared out (shard) learns in one stage, and only the leading process validates: "
                f"expected one of stages and no validation_share, got {len(self.stages)} and {self.validation_share}"
            )
        if self.threads < 0:
            raise ValueError(f"threads must not be negative, got {self.threads}")
        if self.precision == "bf16" and not self.device.startswith("cuda"):
            raise ValueError(f"precision bf16 needs a CUDA device, got device {self.device!r}; use fp32 there")


FREE_TO_CHANGE = FREE_IN_ANY_RUN | {"pictures", "shard", "validate_every", "validation_windows"}
"""Fields that a resumed run may set anew, for they change what is learned by rounding at most."""

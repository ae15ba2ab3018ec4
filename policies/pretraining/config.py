"""The settings of one pre-training."""

from dataclasses import dataclass, field

from policies.training.augment import AugmentConfig
from policies.training.schedule import check_rates
from vla.objectives.objective import ObjectiveWeights


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How a backbone learns to look, to tell, and what belongs together; ``steps`` are the optimiser's.

    Each step is a batch of so many ``tables`` that no other step has, with up to ``sentences_per_table`` and
    ``questions_per_table`` each, and a caption, which share its pictures; what no weight counts is not asked for.
    Where a sentence encoder teaches, each step has ``lessons`` of up to ``corpus`` sentences. After ``warmup_steps``
    the learning rate falls from ``lr`` to ``lr · min_lr_ratio`` along half a cosine. Every ``evaluate_every`` steps and
    at the end the averaged weights look at ``held_out_tables``, with words that are never learned from. Every
    ``save_every`` steps leave a checkpoint, of which the newest ``keep_last`` stay. The state is scaled by what it is
    at the first ``statistics_tables``. Pictures are not shifted: where things are in them is what is learned.
    """

    steps: int = 6000
    tables: int = 16
    sentences_per_table: int = 4
    questions_per_table: int = 2
    lessons: int = 64
    corpus: int = 20_000
    weights: ObjectiveWeights = field(default_factory=ObjectiveWeights)
    warmup_steps: int = 100
    lr: float = 2e-3
    min_lr_ratio: float = 0.05
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float = 1.0
    ema_decay: float = 0.995
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(shift_fraction=0.0))
    statistics_tables: int = 256
    held_out_tables: int = 256
    evaluate_every: int = 1000
    seed: int = 0
    log_every: int = 20
    save_every: int = 500
    keep_last: int = 2
    device: str = "cpu"
    processes: int = 1
    """How many processes of this machine learn together, each from its share of every batch and, on cuda, on a GPU of
    its own. What torchrun starts needs no such number."""
    threads: int = 0
    """Threads of torch on the CPU in each process that learns; 0 leaves torch's choice to one, and shares the cores
    among several."""

    def __post_init__(self) -> None:
        counts = ("steps", "tables", "sentences_per_table", "questions_per_table", "lessons", "corpus", "processes")
        for name in (*counts, *_OTHER_COUNTS):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        check_rates(lr=self.lr, min_lr_ratio=self.min_lr_ratio, grad_clip=self.grad_clip, ema_decay=self.ema_decay)
        if min(self.warmup_steps, self.threads) < 0:
            raise ValueError(f"warmup_steps and threads must be 0 or more, got {self.warmup_steps} and {self.threads}")
        if self.augment.shift_fraction:
            raise ValueError(
                "augment.shift_fraction must be 0 where the places of things in the pictures are learned, "
                f"got {self.augment.shift_fraction}"
            )
        if not 0 <= self.seed < _SEEDS:
            raise ValueError(f"seed must lie in 0…{_SEEDS - 1}, got {self.seed}")

    @property
    def first_seed(self) -> int:
        """Of the tables that are learned from; those of other training seeds are far away."""
        return HELD_OUT_SEEDS + self.seed * _TABLES_OF_A_SEED


_OTHER_COUNTS = ("log_every", "save_every", "keep_last", "statistics_tables", "held_out_tables", "evaluate_every")
HELD_OUT_SEEDS = 2**32
"""Tables below are never learned from: those to evaluate on begin at 0."""
_TABLES_OF_A_SEED = 2**40
_SEEDS = 2**20
HELD_OUT = "held_out_"
"""What the names of numbers begin with that come of tables that are never learned from, in held-out words."""
KNOWN_WORDS = "known_words_"
"""What follows in the names of those that come of such tables in the words that are learned."""

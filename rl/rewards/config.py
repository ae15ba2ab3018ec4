"""What decides how rewards learn, how they are read off, and how they are judged."""

from dataclasses import dataclass
from typing import Literal, get_args

Output = Literal["progress", "leading"]
OUTPUTS: tuple[Output, ...] = get_args(Output)
"""What a process reward's head says of a frame, in its order."""


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Sizes of the network, and how long and how fast it learns."""

    width: int = 128
    dropout: float = 0.2
    steps: int = 1500
    batch_size: int = 512
    lr: float = 1e-3
    weight_decay: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.width, self.steps, self.batch_size) < 1 or not 0 <= self.dropout < 1 or self.lr <= 0:
            raise ValueError(
                f"expected a width, steps, a batch size and a rate above 0 and dropout in 0 … 1, got {self}"
            )


TOWERS = HeadConfig(width=256, dropout=0.4, steps=200, batch_size=256, lr=2e-3, weight_decay=0.05)
"""How towers learn states, which they soon know by heart."""


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """When the tool nearly stands still, and what leads there.

    A keyframe within a part is slower than ``slow`` of the part's fastest frame, the slowest of its neighbours, and at
    least ``apart`` frames away from the next one; the ``leading`` frames up to it lead to it. Every ``every`` frames
    are learned from. ``swapped`` is the share of frames that are also shown with the instruction of another episode,
    and have neither progress nor lead anywhere: a few of them are wrong, where the other instruction means the same.
    """

    slow: float = 0.1
    apart: int = 4
    leading: int = 5
    every: int = 2
    swapped: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.slow < 1 or not 0 <= self.swapped <= 1 or min(self.apart, self.leading, self.every) < 1:
            raise ValueError(f"expected slow and swapped in 0 … 1, and frames of at least 1, got {self}")


@dataclass(frozen=True, kw_only=True)
class ScorerConfig:
    """How scores are read off pictures and models; each kind heeds what is its own."""

    baseline: str = ""
    """Towers: a sentence that describes any scene of the kind, which makes the score VLM-RM's; empty for the cosine."""
    alpha: float = 0.5
    """Towers with a baseline: how much less counts what lies off the line from baseline to goal, 0 … 1."""
    described: bool = True
    """Towers: compare with what is to be seen when the task is done, where the task can say it, not the instruction."""
    output: Output = "progress"
    """Process rewards: progress, or the paper's leading."""
    prompt: str = ""
    """Models that are asked: has {instruction} once, and {images} where they do not come first; empty for the usual."""
    device: str = "cpu"
    """Where scores are computed."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in 0 … 1, got {self.alpha}")
        if self.output not in OUTPUTS:
            raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, got {self.output!r}")


@dataclass(frozen=True, kw_only=True)
class LabConfig:
    """``precision`` is what the threshold is chosen for, on the calibration episodes, by the vote of so many frames.

    ``resample_seed`` draws the intervals of the AUC.
    """

    precision: float = 0.9
    votes: int = 1
    resample_seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.precision <= 1 or self.votes < 1:
            raise ValueError(f"expected a precision in 0 … 1, not 0, and at least one vote, got {self}")

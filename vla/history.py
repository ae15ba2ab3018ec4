"""Which moments of the past a network is shown beside the present."""

from dataclasses import dataclass
from typing import Literal, get_args

Sampling = Literal["last", "memory_bank"]


@dataclass(frozen=True, kw_only=True)
class History:
    """``frames`` moments, the present included, out of those every ``gap`` control steps before it.

    ``last`` are the latest of them. ``memory_bank`` are, of the ``memory`` latest, those that differ
    (:func:`vla.spatial.memory_bank.sample_frames`). Training and acting show the same ones. ``ValueError`` for numbers
    that make no sense.
    """

    frames: int = 1
    gap: int = 1
    sampling: Sampling = "last"
    memory: int = 0

    def __post_init__(self) -> None:
        if self.frames < 1 or self.gap < 1:
            raise ValueError(f"expected frames and frame_gap of at least 1, got {self.frames} and {self.gap}")
        if self.sampling not in get_args(Sampling):
            raise ValueError(
                f"expected one of {', '.join(get_args(Sampling))} for frame_sampling, got {self.sampling!r}"
            )
        if self.sampling == "memory_bank" and self.memory < self.frames:
            raise ValueError(
                f"a memory_bank of {self.frames} frames chooses among at least as many moments, "
                f"got frame_memory {self.memory}"
            )
        if self.sampling == "last" and self.memory:
            raise ValueError(f"frame_memory {self.memory} is of a frame_sampling memory_bank, got last")

    @property
    def looks_back(self) -> bool:
        """Whether there is more than the present."""
        return self.frames > 1

    @property
    def moments(self) -> int:
        """How many moments there are to choose from."""
        return self.memory if self.sampling == "memory_bank" else self.frames

    @property
    def ages(self) -> tuple[int, ...]:
        """How many control steps each of the ``moments`` lies before the present, which is the last."""
        return tuple(self.gap * back for back in reversed(range(self.moments)))


PRESENT = History()
"""The present alone."""

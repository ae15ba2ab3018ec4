"""What acts throughout an episode, with numbers that are drawn at its start."""

from abc import ABC, abstractmethod

from jaxtyping import Int
from torch import Tensor

from envs.random import EpisodeRandom


class Running(ABC):
    """Keeps what was drawn for each world's running episode, so that other ranges count from the next start on.

    As long as the ranges stay, the numbers follow from the episodes' seeds.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, Tensor] = {}

    @abstractmethod
    def drawn(self, random: EpisodeRandom) -> dict[str, Tensor]:
        """By name, (k,) numbers of k episodes."""

    def begin(self, random: EpisodeRandom, worlds: Int[Tensor, " k"], num_worlds: int) -> None:
        """Draw for the episodes that start in ``worlds``."""
        for name, drawn in self.drawn(random).items():
            if name not in self.numbers:
                self.numbers[name] = drawn.new_zeros(num_worlds)
            self.numbers[name][worlds] = drawn

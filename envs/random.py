"""Random numbers that depend on (seed, name) alone, so that a world's episode never depends on its neighbours.

A counter-based generator: every number is a hash (splitmix64, Steele et al. 2014) of the world's seed, the name of
what is drawn and its position. Batched, the same on every device, and adding a draw never changes another one.
"""

import zlib

import torch
from jaxtyping import Float, Int
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(x: Int[Tensor, "..."], bits: int) -> Int[Tensor, "..."]:
    """Logical (unsigned) right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _splitmix64(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    x = x + _GOLDEN
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


class EpisodeRandom:
    """Draws for n worlds, one int64 seed each."""

    def __init__(self, seeds: Int[Tensor, " n"]) -> None:
        self._state = _splitmix64(seeds.to(torch.int64))

    def __len__(self) -> int:
        return len(self._state)

    @property
    def device(self) -> torch.device:
        return self._state.device

    def fork(self, name: str) -> "EpisodeRandom":
        """Draws of their own under each name, independent of these."""
        return EpisodeRandom(self._state ^ zlib.crc32(name.encode()))

    def at(self, steps: Int[Tensor, " n"]) -> "EpisodeRandom":
        """Draws of their own at each step of the episodes."""
        return EpisodeRandom(self._state ^ _splitmix64(steps))

    def take(self, worlds: Int[Tensor, " k"]) -> "EpisodeRandom":
        """The draws of some of the episodes."""
        random = EpisodeRandom(worlds)
        random._state = self._state[worlds]
        return random

    def uniform(self, name: str, k: int, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "n k"]:
        """float32 in [low, high): 24 random bits each."""
        counter = torch.arange(k, device=self._state.device) + (zlib.crc32(name.encode()) << 20)
        bits = _splitmix64(self._state[:, None] ^ _splitmix64(counter)[None, :])
        return _shift_right(bits, 40).to(torch.float32) * 2.0**-24 * (high - low) + low

    def integers(self, name: str, k: int, high: int | Int[Tensor, "n 1"]) -> Int[Tensor, "n k"]:
        """int64 in 0 … high−1; ``high`` may differ per world."""
        return (self.uniform(name, k) * high).long()

    def permutation(self, name: str, k: int) -> Int[Tensor, "n k"]:
        """A random order of 0 … k−1."""
        return self.uniform(name, k).argsort(dim=1)

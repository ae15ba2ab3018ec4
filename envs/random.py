"""Random numbers that depend on (stream, seed, name) alone, so that a world's episode never depends on its neighbours.

A counter-based generator: every number is a hash (splitmix64, Steele et al. 2014) of the episode's seed and stream, the
name of what is drawn and its position. Batched, the same on every device, and adding a draw never changes another one.
"""

import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from envs.specs import STREAMS, Stream

MOST_SEEDS = 2**61
"""Seeds of a stream are 0 … this, less one."""
_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def checked_seeds(seeds: Int[Tensor, " n"] | Sequence[int], count: int) -> Int[Tensor, " n"]:
    """``seeds`` as int64, on the device where they are; the host waits for it.

    ``ValueError`` unless they are ``count`` integers that a stream has.
    """
    numbers = seeds.numpy(force=True) if isinstance(seeds, Tensor) else np.asarray(seeds)
    if numbers.shape != (count,):
        raise ValueError(f"expected {count} seeds, one per world, got shape {numbers.shape}")
    whole = np.issubdtype(numbers.dtype, np.integer)
    wrong = numbers[(numbers < 0) | (numbers >= MOST_SEEDS)] if whole else numbers
    if len(wrong):
        raise ValueError(f"expected seeds that are integers in 0 … 2⁶¹ − 1, got {wrong.tolist()}")
    return torch.as_tensor(seeds if isinstance(seeds, Tensor) else numbers.astype(np.int64), dtype=torch.long)


def _shift_right(x: Int[Tensor, "..."], bits: int) -> Int[Tensor, "..."]:
    """Logical (unsigned) right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _splitmix64(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """A bijection of the 64-bit integers: different states never become the same."""
    return _mixed_on_host(x) if x.device.type == "cpu" else _mixed(x)


def _mixed_on_host(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """As :func:`_mixed`, in NumPy: it has unsigned numbers, works in place, and its calls cost a third."""
    bits = x.numpy().astype(np.uint64)
    bits += np.uint64(_GOLDEN % 2**64)
    for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
        bits ^= bits >> np.uint64(shift)
        bits *= np.uint64(factor % 2**64)
    bits ^= bits >> np.uint64(31)
    return torch.from_numpy(bits.view(np.int64))


def _mixed(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """One step of splitmix64, on any device."""
    x = x + _GOLDEN
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


@lru_cache(maxsize=4096)
def _counter(name: str, k: int, device: torch.device) -> Int[Tensor, " k"]:
    """What k draws called ``name`` mix into the state."""
    return _splitmix64(torch.arange(k) + _start_of(name)).to(device)


def _start_of(name: str) -> int:
    """Where a name's counter starts: far from those of other names, and from all seeds below 10¹⁸."""
    return (zlib.crc32(name.encode()) << 20) + (1 << 62)


@lru_cache(maxsize=1024)
def counters(sizes: tuple[tuple[str, int], ...], device: torch.device) -> Int[Tensor, " k"]:
    """What :meth:`EpisodeRandom.drawn` makes the numbers called by each name of, one name after the other."""
    return torch.cat([_counter(name, k, device) for name, k in sizes])


class EpisodeRandom:
    """Draws for n episodes, each of which is a seed (int64, 0 … 2⁶¹ − 1) of a stream.

    Episodes of different streams, or of different seeds, begin with different states, however long they are counted.
    """

    def __init__(self, seeds: Int[Tensor, " n"], stream: Stream = "demonstrate") -> None:
        self._state = _splitmix64(seeds.to(torch.int64) * len(STREAMS) + STREAMS.index(stream))

    @classmethod
    def _with(cls, state: Int[Tensor, " n"]) -> "EpisodeRandom":
        random = cls.__new__(cls)
        random._state = state
        return random

    def __len__(self) -> int:
        return len(self._state)

    @property
    def device(self) -> torch.device:
        return self._state.device

    def fork(self, name: str) -> "EpisodeRandom":
        """Draws of their own under each name, independent of these."""
        return self._with(_splitmix64(self._state ^ zlib.crc32(name.encode())))

    def at(self, steps: Int[Tensor, " n"]) -> "EpisodeRandom":
        """Draws of their own at each step of the episodes."""
        return self._with(_splitmix64(self._state ^ _splitmix64(steps + _start_of("at"))))

    def attempts(self, count: int, first: int = 0) -> "EpisodeRandom":
        """``count`` times as many draws: each episode's attempts from the ``first`` on, one after the other."""
        attempts = _counter("attempts", first + count, self.device)[first:]
        return self._with(_splitmix64(self._state[:, None] ^ attempts).flatten())

    def take(self, worlds: Int[Tensor, " k"]) -> "EpisodeRandom":
        """The draws of some of the episodes."""
        return self._with(self._state[worlds])

    def replaced(self, worlds: Int[Tensor, " k"], fresh: "EpisodeRandom") -> "EpisodeRandom":
        """``fresh`` draws, of k episodes, in ``worlds``; these elsewhere."""
        return self._with(self._state.index_copy(0, worlds, fresh._state))

    def uniforms(self, sizes: tuple[tuple[str, int], ...]) -> tuple[Float[Tensor, "n k"], ...]:
        """For each name and k what :meth:`uniform` gives in [0, 1), drawn in one go."""
        return self.drawn(counters(sizes, self.device)).split([k for _, k in sizes], dim=1)

    def uniform(self, name: str, k: int, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "n k"]:
        """float32 of 24 random bits each: in [0, 1), or from ``low`` to ``high``, which rounding may reach."""
        drawn = self.drawn(_counter(name, k, self.device))
        return drawn if (low, high) == (0.0, 1.0) else drawn * (high - low) + low

    def integers(self, name: str, k: int, high: int | Int[Tensor, "n 1"]) -> Int[Tensor, "n k"]:
        """int64 in 0 … high−1; ``high`` may differ per world."""
        return (self.uniform(name, k) * high).long()

    def drawn(self, counter: Int[Tensor, " k"]) -> Float[Tensor, "n k"]:
        """The numbers of some :func:`counters`, in [0, 1), in whatever order these are."""
        bits = _splitmix64(self._state[:, None] ^ counter)
        return _shift_right(bits, 40).to(torch.float32) * 2.0**-24

    def permutation(self, name: str, k: int) -> Int[Tensor, "n k"]:
        """A random order of 0 … k−1."""
        return self.uniform(name, k).argsort(dim=1)

"""The task contract: a task is written once, on batched tensors, for every engine and robot."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.language import Phrasings, Split
from envs.random import EpisodeRandom
from envs.scenes.tabletop import BIN_COLOURS, CUBE_COLOURS, CUBE_HALF_M, Layout, Sensed


class Task(ABC):
    """What is on the table, what is asked, when it is done, and how a script would do it."""

    name: ClassVar[str]
    max_episode_steps: ClassVar[int]
    phrasings: ClassVar[Phrasings]
    num_cubes: ClassVar[int] = 4
    num_bins: ClassVar[int] = 0

    @property
    def chance(self) -> float:
        """Success of a policy that does the right thing to a random cube (and bin), 2 … ``num_cubes`` being there."""
        counts = range(2, self.num_cubes + 1)
        return sum(1 / count for count in counts) / len(counts) / max(1, self.num_bins)

    @abstractmethod
    def sample(self, random: EpisodeRandom) -> Layout:
        """Draw every world's episode."""

    @abstractmethod
    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        """Is the instruction fulfilled now?"""

    @abstractmethod
    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        """How far the task is done, 0 … 1; its differences are the dense reward (Ng et al. 1999)."""

    @abstractmethod
    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        """The scripted expert: a function of the present state alone, so that it recovers from any noise."""

    def instructions(self, layout: Layout, split: Split) -> list[str]:
        """One sentence per world."""
        cubes, bins = list(CUBE_COLOURS), list(BIN_COLOURS)
        cube_colour = pick(layout.cube_colour, layout.cube).tolist()
        bin_colour = pick(layout.bin_colour, layout.bin).tolist() if self.num_bins else [0] * len(cube_colour)
        return [
            self.phrasings.choose(split, draw).format(cube=f"{cubes[c]} cube", bin=f"{bins[b]} bin")
            for draw, c, b in zip(layout.phrasing.tolist(), cube_colour, bin_colour, strict=True)
        ]


def pick(values: Tensor, index: Int[Tensor, " n"]) -> Tensor:
    """``values[i, index[i]]`` for every world i."""
    return values[torch.arange(len(index), device=values.device), index]


def scatter_cubes(
    random: EpisodeRandom, num_cubes: int, cells_m: list[tuple[float, float]], jitter_m: float
) -> dict[str, Tensor]:
    """Layout fields of 2 … ``num_cubes`` cubes in distinct cells and colours, one of them named.

    Cells are (x, y) centres on the table; each cube is displaced by up to ``jitter_m`` per axis and turned by up to
    0.3 rad.
    """
    n = len(random)
    cells = torch.tensor(cells_m)[random.permutation("cells", len(cells_m))[:, :num_cubes]]
    offsets = random.uniform("jitter", 2 * num_cubes, -jitter_m, jitter_m).reshape(n, num_cubes, 2)
    height = torch.full((n, num_cubes, 1), CUBE_HALF_M)
    count = 2 + random.integers("count", 1, num_cubes - 1)
    return {
        "cube_position": torch.cat((cells + offsets, height), -1),
        "cube_yaw_rad": random.uniform("yaw", num_cubes, -0.3, 0.3),
        "cube_colour": random.permutation("colours", len(CUBE_COLOURS))[:, :num_cubes],
        "cube_present": torch.arange(num_cubes) < count,
        "cube": random.integers("target", 1, count)[:, 0],
        "phrasing": random.uniform("phrasing", 1)[:, 0],
    }


def no_bins(n: int) -> dict[str, Tensor]:
    """Layout fields of a table without bins."""
    return {
        "bin_position": torch.zeros(n, 0, 3),
        "bin_colour": torch.zeros(n, 0, dtype=torch.long),
        "bin": torch.zeros(n, dtype=torch.long),
    }

"""tabletop-spatial: three cubes of one colour, and only where they stand says which one is meant.

*Randomisation*: three cubes of one drawn colour in a 3 × 3 grid (±1.5 cm, ±0.3 rad), a black cylinder as landmark
beside them, a white bin on one side, drawn. Of several drawn tables the first counts on which the named place is clear:
the meant cube leads the next one by 4 cm. *Success*, *dense reward* and *expert*: as in place.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.props.base import Region
from envs.props.bin import Bin
from envs.props.block import Block
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout, places, scatter
from envs.suites.base import Suite
from envs.tasks.choice import blocks
from envs.tasks.place import Place

NAME = "tabletop-spatial"
GRID = Region(
    name="grid",
    cells_m=tuple((x, y) for x in (0.36, 0.47, 0.58) for y in (-0.1, 0.0, 0.1)),
    jitter_m=0.015,
    yaw_rad=0.3,
)
SIDE = Region(name="side", cells_m=((0.42, 0.25), (0.42, -0.25)), jitter_m=0.02)
LANDMARKS = Region(name="landmark", cells_m=((0.58, 0.22), (0.58, -0.22)), jitter_m=0.015)
CLEAR_BY_M = 0.04
_CUBES = 3
ATTEMPTS = 24
MANY, MANY_ROUNDS = 64, (1, 1, 1, 1, 2, 2, 4, 4, 8)
"""For more episodes than this it is faster to ask, on the host, which of them need another attempt."""

Measure = Callable[[Float[Tensor, "n 3 2"], Float[Tensor, "n 1 2"], Float[Tensor, "n 1 2"]], Float[Tensor, "n 3"]]
"""From the cubes', the bin's and the landmark's (x, y): metres, the least for the cube that is meant."""


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).norm(dim=-1)


def _from_middle(across: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    return (across - across.median(dim=1, keepdim=True).values).abs()


SPOTS: dict[str, tuple[str, Measure]] = {
    "leftmost": ("leftmost cube", lambda cubes, bin_, mark: -cubes[..., 1]),
    "rightmost": ("rightmost cube", lambda cubes, bin_, mark: cubes[..., 1]),
    "nearest": ("cube nearest to the robot", lambda cubes, bin_, mark: cubes[..., 0]),
    "farthest": ("cube farthest from the robot", lambda cubes, bin_, mark: -cubes[..., 0]),
    "centre": ("middle cube from left to right", lambda cubes, bin_, mark: _from_middle(cubes[..., 1])),
    "centre-row": ("middle cube from near to far", lambda cubes, bin_, mark: _from_middle(cubes[..., 0])),
    "by-bin": ("cube closest to the bin", lambda cubes, bin_, mark: _distance(cubes, bin_)),
    "off-bin": ("cube farthest from the bin", lambda cubes, bin_, mark: -_distance(cubes, bin_)),
    "by-cylinder": ("cube closest to the cylinder", lambda cubes, bin_, mark: _distance(cubes, mark)),
    "off-cylinder": ("cube farthest from the cylinder", lambda cubes, bin_, mark: -_distance(cubes, mark)),
}


class PlaceFrom(Place):
    """Put the cube that stands in a certain spot into the bin."""

    chance = 1 / 3
    props = (
        *blocks(GRID, _CUBES),
        Bin(name="bin0", region=SIDE, palette=("white",)),
        Block(
            name="cylinder0",
            region=LANDMARKS,
            shape="cylinder",
            half_m=(0.02, 0.02, 0.04),
            mass_kg=0.2,
            palette=("black",),
        ),
    )

    def __init__(self, spot: str) -> None:
        words, self._measure = SPOTS[spot]
        self.name = f"{NAME}/{spot}"
        self.phrasings = Place.phrasings.saying("block", words)

    def sample(self, random: EpisodeRandom) -> Layout:
        """The first clear one of ``ATTEMPTS`` tables, or the last; many episodes draw more only where needed."""
        rounds = MANY_ROUNDS if len(random) > MANY and random.device.type == "cpu" else (ATTEMPTS,)
        worlds, tried = torch.arange(len(random), device=random.device), 0
        chosen, meant = random, torch.zeros_like(worlds)
        for count in rounds:
            attempts = random.take(worlds).attempts(count, tried)
            slot, clear = self._meant(attempts)
            clear = clear.reshape(-1, count)
            first = torch.where(clear.any(1), clear.int().argmax(1), count - 1)
            taken = torch.arange(len(worlds), device=random.device) * count + first
            chosen, meant = chosen.replaced(worlds, attempts.take(taken)), meant.index_copy(0, worlds, slot[taken])
            tried += count
            if len(rounds) > 1:
                worlds = worlds[~clear.any(1)]
        layout = scatter(chosen, self.props)
        colour = torch.cat((layout.colour[:, :1].expand(-1, _CUBES), layout.colour[:, _CUBES:]), 1)
        return replace(layout, colour=colour).with_roles(block=meant, bin="bin0")

    def _meant(self, random: EpisodeRandom) -> tuple[Int[Tensor, " n"], Bool[Tensor, " n"]]:
        """The slot that is meant on each table, and whether it leads clearly."""
        cubes, bins, marks = places(random, self.props).split((_CUBES, 1, 1), dim=1)
        measured, order = self._measure(cubes, bins, marks).sort(dim=1)
        return order[:, 0], measured[:, 1] - measured[:, 0] >= CLEAR_BY_M


SPATIAL = Suite(name=NAME, varies="where the thing to be moved stands", tasks=tuple(PlaceFrom(spot) for spot in SPOTS))

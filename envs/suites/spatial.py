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
from envs.scenes.layout import Layout, scatter
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
ATTEMPTS = 24
MANY, MANY_ROUNDS = 64, (1, 2, 4, 8, 9)
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
        *blocks(GRID, 3),
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
        worlds, tried, drawn = torch.arange(len(random), device=random.device), 0, None
        for count in rounds:
            more, meant, clear = self._draw(random.take(worlds).attempts(count, tried))
            clear = clear.reshape(-1, count)
            first = torch.where(clear.any(1), clear.int().argmax(1), count - 1)
            chosen = torch.arange(len(worlds), device=random.device) * count + first
            more = more.take(chosen).with_roles(block=meant[chosen], bin="bin0")
            drawn, tried = more if drawn is None else drawn.replaced(worlds, more), tried + count
            if len(rounds) > 1:
                worlds = worlds[~clear.any(1)]
        assert drawn is not None
        return drawn

    def _draw(self, random: EpisodeRandom) -> tuple[Layout, Int[Tensor, " n"], Bool[Tensor, " n"]]:
        """A table, the slot that is meant, and whether it leads clearly."""
        layout = scatter(random, self.props)
        cubes = len(self.props) - 2
        colour = torch.cat((layout.colour[:, :1].expand(-1, cubes), layout.colour[:, cubes:]), 1)
        layout = replace(layout, colour=colour)
        flat = layout.position[..., :2]
        bins, marks = (flat[:, layout.slot(name), None] for name in ("bin0", "cylinder0"))
        measured, order = self._measure(flat[:, :cubes], bins, marks).sort(dim=1)
        return layout, order[:, 0], measured[:, 1] - measured[:, 0] >= CLEAR_BY_M


SPATIAL = Suite(name=NAME, varies="where the thing to be moved stands", tasks=tuple(PlaceFrom(spot) for spot in SPOTS))

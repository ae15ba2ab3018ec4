"""tabletop-spatial: three cubes of one colour, and only where they stand says which one is meant.

*Randomisation*: three cubes of one drawn colour in a 3 × 3 grid (±1.5 cm, ±0.3 rad), a black cylinder as landmark
beside them, a white bin on one side, drawn. Of several drawn tables the first counts on which the named place is clear:
the meant cube leads the next one by 4 cm. *Success*, *dense reward* and *expert*: as in place.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from envs.language import Phrasings
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
        self.phrasings = Phrasings(
            train=tuple(sentence.replace("{block}", words) for sentence in Place.phrasings.train),
            held_out=tuple(sentence.replace("{block}", words) for sentence in Place.phrasings.held_out),
        )

    def sample(self, random: EpisodeRandom) -> Layout:
        layout, meant, lead = self._draw(random, 0)
        for attempt in range(1, ATTEMPTS):
            better, other, its_lead = self._draw(random, attempt)
            unclear = lead < CLEAR_BY_M
            layout = layout.updated(better, unclear)
            meant, lead = torch.where(unclear, other, meant), torch.where(unclear, its_lead, lead)
        return layout.with_roles(block=meant, bin="bin0")

    def _draw(self, random: EpisodeRandom, attempt: int) -> tuple[Layout, Int[Tensor, " n"], Float[Tensor, " n"]]:
        """A table, the slot that is meant, and by how much it leads (m)."""
        layout = scatter(random.fork(f"attempt{attempt}"), self.props)
        colour = layout.colour.clone()
        colour[:, :3] = colour[:, :1]
        layout = replace(layout, colour=colour)
        flat = layout.position[..., :2]
        bins, marks = (flat[:, layout.slot(name), None] for name in ("bin0", "cylinder0"))
        measured, order = self._measure(flat[:, :3], bins, marks).sort(dim=1)
        return layout, order[:, 0], measured[:, 1] - measured[:, 0]


SPATIAL = Suite(name=NAME, varies="where the thing to be moved stands", tasks=tuple(PlaceFrom(spot) for spot in SPOTS))

"""Sort: put every cube into the bin of its own colour.

*Randomisation*: two bins of distinct colours left and right, sides drawn, each displaced by ±2 cm; between them 2–4
cubes in a 3 × 2 grid, displaced by ±2 cm and turned by ±0.3 rad, at least one of either colour. *Success*: for a fifth
of a second every cube lies at rest within the walls of the bin of its colour, touched by nothing of the robot. *Dense
reward*: per cube, nearness of the tool to it and of it to its bin; the tool counts the less the nearer it is.
"""

from dataclasses import replace
from statistics import fmean

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.language import Phrasings
from envs.props.bin import Bin, lies_in_tray, outside_tray_m
from envs.props.block import CUBE_HALF_M
from envs.props.colours import BRIGHT
from envs.random import EpisodeRandom
from envs.rotations import matrix_from_quat
from envs.scenes.layout import Layout, scatter
from envs.scenes.regions import MIDDLE, SIDES
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.choice import blocks
from envs.tasks.dropping import SPREAD_M, drop_into
from envs.tasks.motion import nearness

CORNERS_M = tuple((x, y) for x in (-SPREAD_M, SPREAD_M) for y in (-SPREAD_M, SPREAD_M))
_COUNT = 4
_CUBES = blocks(MIDDLE, _COUNT)


class Sort(Task):
    """Carry each cube to the bin of its colour."""

    name = "sort"
    max_episode_steps = 320
    dwell_steps = 4
    props = (*_CUBES, *(Bin(name=f"bin{i}", region=SIDES, palette=BRIGHT) for i in range(2)))
    chance = fmean(0.5**count for count in (2, 3, 4))
    phrasings = Phrasings(
        train=(
            "sort the cubes into the bins of their colour",
            "put every cube into the bin of its colour",
            "sort the cubes by colour",
            "place each cube in the bin of the same colour",
            "tidy the cubes into the bins that match their colours",
        ),
        held_out=(
            "each cube belongs in the bin of its own colour",
            "put the cubes into the bins with matching colours",
            "please sort all cubes by their colour",
        ),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        layout = scatter(random, self.props)
        of_two = random.integers("of_two", _COUNT, 2)
        of_two[:, 1] = 1 - of_two[:, 0]
        colour, present = layout.colour.clone(), layout.present.clone()
        colour[:, :_COUNT] = colour[:, _COUNT:].gather(1, of_two)
        count = 2 + random.integers("count", 1, _COUNT - 1)
        present[:, :_COUNT] = torch.arange(_COUNT, device=random.device) < count
        return replace(layout, colour=colour, present=present)

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        lies = sorted_cubes(sensed, layout) & sensed.left_alone[:, :_COUNT]
        return (lies | ~layout.present[:, :_COUNT]).all(-1)

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        cubes, present = sensed.position[:, :_COUNT], layout.present[:, :_COUNT]
        bins, bin_scale = _own_bin(sensed, layout)
        reached = nearness(sensed.tool_position[:, None], cubes)
        carried = 1 - torch.tanh(5 * outside_tray_m(cubes - bins, bin_scale))
        score = (carried + 0.4 * reached * (1 - carried)) * present
        return score.sum(-1) / present.sum(-1)

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        """One cube after another, always the nearest to the tool that is still to be sorted."""
        cubes = sensed.position[:, :_COUNT]
        away = (sensed.tool_position[:, None] - cubes).norm(dim=-1)
        behind = (sorted_cubes(sensed, layout) & sensed.let_go[:, :_COUNT]) | ~layout.present[:, :_COUNT]
        slot = torch.where(behind, torch.inf, away).argmin(-1)
        rows = torch.arange(len(slot), device=slot.device)
        bins, bin_scale = _own_bin(sensed, layout)
        width_m = 2 * CUBE_HALF_M * layout.scale[rows, slot]
        return drop_into(
            sensed, cubes, slot, bins[rows, slot], CORNERS_M, width_m, behind.all(-1), bin_scale[rows, slot]
        )


def sorted_cubes(sensed: Sensed, layout: Layout) -> Bool[Tensor, "n k"]:
    """Which cubes are in the bin of their colour; bins are never turned."""
    bins, bin_scale = _own_bin(sensed, layout)
    extent = _CUBES[0].extent_m(matrix_from_quat(sensed.quat[:, :_COUNT])) * layout.scale[:, :_COUNT, None]
    return lies_in_tray(sensed.position[:, :_COUNT] - bins, extent, bin_scale)


def _own_bin(sensed: Sensed, layout: Layout) -> tuple[Float[Tensor, "n k 3"], Float[Tensor, "n k"]]:
    """Where the bin of each cube's colour stands, and its size."""
    second = layout.colour[:, :_COUNT] == layout.colour[:, _COUNT + 1, None]
    first_bin, second_bin = sensed.position[:, None, _COUNT], sensed.position[:, None, _COUNT + 1]
    size = torch.where(second, layout.scale[:, None, _COUNT + 1], layout.scale[:, None, _COUNT])
    return torch.where(second[..., None], second_bin, first_bin), size

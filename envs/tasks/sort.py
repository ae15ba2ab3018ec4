"""Sort: put every cube into the bin of its own colour.

*Randomisation*: two bins of distinct colours left and right, sides drawn, each displaced by ±2 cm; between them 2–4
cubes in a 3 × 2 grid, displaced by ±2 cm and turned by ±0.3 rad, at least one of either colour. *Success*: every cube
lies inside the bin of its colour and the gripper is open. *Dense reward*: per cube, nearness of the tool to it and of
it to its bin; all of it once it lies there.
"""

from collections.abc import Sequence
from statistics import fmean

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.language import Phrasings
from envs.props.bin import BIN_HALF_M, BIN_WALL_M, Bin
from envs.props.block import CUBE_HALF_M
from envs.props.colours import BRIGHT
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout, scatter
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.choice import blocks
from envs.tasks.motion import Width, carry, let_go, nearness
from envs.tasks.place import MIDDLE, OPEN_GAP_M, SIDES

CRUISE_M = 0.13
RELEASE_M = 0.057
SPREAD_M = 0.03
CORNERS_M = tuple((x, y) for x in (-SPREAD_M, SPREAD_M) for y in (-SPREAD_M, SPREAD_M))
_CUBES = 4


class Sort(Task):
    """Carry each cube to the bin of its colour."""

    name = "sort"
    max_episode_steps = 320
    props = (*blocks(MIDDLE, _CUBES), *(Bin(name=f"bin{i}", region=SIDES, palette=BRIGHT) for i in range(2)))
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
        of_two = random.integers("of_two", _CUBES, 2)
        of_two[:, 1] = 1 - of_two[:, 0]
        colour, present = layout.colour.clone(), layout.present.clone()
        colour[:, :_CUBES] = colour[:, _CUBES:].gather(1, of_two)
        count = 2 + random.integers("count", 1, _CUBES - 1)
        present[:, :_CUBES] = torch.arange(_CUBES, device=random.device) < count
        return Layout(**{**vars(layout), "colour": colour, "present": present})

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        return sorted_cubes(sensed, layout).all(-1) & (sensed.gap > OPEN_GAP_M)

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        cubes, bins = sensed.position[:, :_CUBES], _own_bin(sensed, layout)
        reached, carried = nearness(sensed.tool_position[:, None], cubes), nearness(cubes[..., :2], bins[..., :2])
        present = layout.present[:, :_CUBES]
        score = torch.where(sorted_cubes(sensed, layout), 1.0, 0.4 * reached + 0.6 * carried) * present
        return score.sum(-1) / present.sum(-1)

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        """One cube after another, always the nearest to the tool that is still to be sorted."""
        cubes = sensed.position[:, :_CUBES]
        away = (sensed.tool_position[:, None] - cubes).norm(dim=-1)
        slot = torch.where(sorted_cubes(sensed, layout), torch.inf, away).argmin(-1)
        rows = torch.arange(len(slot), device=slot.device)
        own_bin, width_m = _own_bin(sensed, layout)[rows, slot], 2 * CUBE_HALF_M * layout.scale[rows, slot]
        return drop_into(sensed, cubes, slot, own_bin, CORNERS_M, width_m)


def sorted_cubes(sensed: Sensed, layout: Layout) -> Bool[Tensor, "n k"]:
    """Which cubes lie in the bin of their colour; those that are not there count as sorted."""
    offset = (sensed.position[:, :_CUBES] - _own_bin(sensed, layout)).abs()
    inside = (offset[..., :2].amax(-1) < BIN_HALF_M) & (offset[..., 2] < BIN_WALL_M)
    return inside | ~layout.present[:, :_CUBES]


def _own_bin(sensed: Sensed, layout: Layout) -> Float[Tensor, "n k 3"]:
    """Where the bin of each cube's colour stands."""
    second = layout.colour[:, :_CUBES] == layout.colour[:, _CUBES + 1, None]
    first_bin, second_bin = sensed.position[:, None, _CUBES], sensed.position[:, None, _CUBES + 1]
    return torch.where(second[..., None], second_bin, first_bin)


def drop_into(
    sensed: Sensed,
    things: Float[Tensor, "n k 3"],
    slot: Int[Tensor, " n"],
    receiver: Float[Tensor, "n 3"],
    spots_m: Sequence[tuple[float, float]],
    width_m: Width,
) -> Float[Tensor, "n 7"]:
    """Expert moves that carry the cube in ``slot`` of ``things``, ``width_m`` wide, to the freest spot of ``receiver``.

    ``spots_m`` are (x, y) from the receiver's middle; the freest is the one from which other things are farthest.
    """
    cube = things[torch.arange(len(slot), device=slot.device), slot]
    goal = _free_spot(receiver, things, slot, spots_m)
    offset = goal - cube
    near_m = torch.where(sensed.gap > width_m + 0.006, 0.03, 0.01)
    released = (offset[:, :2].norm(dim=-1) < near_m) & (offset[:, 2].abs() < 0.005)
    bring = carry(sensed, cube, goal, cruise_m=CRUISE_M, width_m=width_m)
    return torch.where(released[:, None], let_go(sensed, width_m), bring)


def _free_spot(
    receiver: Float[Tensor, "n 3"],
    things: Float[Tensor, "n k 3"],
    slot: Int[Tensor, " n"],
    spots_m: Sequence[tuple[float, float]],
) -> Float[Tensor, "n 3"]:
    """Where to drop the thing in ``slot``."""
    spots = receiver[:, None] + torch.tensor([(x, y, RELEASE_M) for x, y in spots_m], device=receiver.device)
    apart = (spots[:, :, None, :2] - things[:, None, :, :2]).norm(dim=-1)
    itself = torch.arange(things.shape[1], device=slot.device) == slot[:, None]
    free_m = torch.where(itself[:, None], torch.inf, apart).amin(-1).clamp_max(2 * SPREAD_M - 0.01)
    # Where several are as free, the first.
    best = (free_m - 1e-4 * torch.arange(len(spots_m), device=slot.device)).argmax(-1)
    return spots[torch.arange(len(best), device=best.device), best]

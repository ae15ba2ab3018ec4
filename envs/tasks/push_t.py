"""PushT: push the T over the table until it covers its mark (Florence et al. 2021; Chi et al. 2023).

*Randomisation*: the T starts around one of four places, displaced by ±3 cm and turned by any angle; the mark is always
the same. *Success*: for a quarter of a second the T covers more than 90 % of the mark, lies flat on the table and at
rest, and is touched by nothing of the robot. *Dense reward*: nearness of the tool to the T, nearness of the T to the
mark in place and turn, and the share of the mark that it covers. *Expert*: it pushes, with a corner of the closed
fingers, and never grips.
"""

from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.constants import constant
from envs.language import Phrasings
from envs.props.base import Region
from envs.props.tee import CENTRE_UNITS, TEE_BOXES_M, TEE_HALF_HEIGHT_M, UNIT_M, Tee, TeeMark
from envs.random import EpisodeRandom
from envs.rotations import matrix_from_quat
from envs.scenes.layout import Layout, scatter
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.motion import nearness
from envs.tasks.planar import Flat, Rim, push_flat

AROUND = Region(
    name="around",
    cells_m=((0.46, -0.11), (0.46, 0.11), (0.56, -0.11), (0.56, 0.11)),
    jitter_m=0.03,
    yaw_rad=torch.pi,
)
MARKED = Region(name="marked", cells_m=((0.52, 0.0),))
COVERED, WELL_COVERED = 0.9, 0.905
"""What counts, and up to where a T that is touched is pushed on."""
POINTS_PER_SQUARE = 200
LEVER_M = 0.06
"""The mean lever arm of the friction under the T: how many metres a radian counts for."""
_PLASTIC = 1.32471795724474602596


class PushT(Task):
    """Push the T onto its mark."""

    name = "pushT"
    max_episode_steps = 400
    dwell_steps = 5
    props = (Tee(name="tee", region=AROUND), TeeMark(name="mark", region=MARKED))
    phrasings = Phrasings(
        train=(
            "push the {tee} onto the {mark}",
            "slide the {tee} onto the {mark}",
            "push the {tee} until it covers the {mark}",
            "move the {tee} to the {mark}",
            "fit the {tee} onto the {mark}",
        ),
        held_out=(
            "cover the {mark} with the {tee}",
            "line the {tee} up with the {mark}",
            "please push the {tee} onto the {mark}",
        ),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        return scatter(random, self.props).with_roles(tee="tee", mark="mark")

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        height = layout.of(sensed.position, "tee")[:, 2]
        lies = (height - TEE_HALF_HEIGHT_M).abs() < 0.005
        tee, mark = _flats(sensed, layout)
        return lies & (covered(tee.seen_from(mark)) > COVERED) & layout.of(sensed.left_alone, "tee")

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        tee, mark = _flats(sensed, layout)
        seen = tee.seen_from(mark)
        turned = (1 + seen.rotation[:, 0, 0]) / 2
        touch = nearness(sensed.tool_position, layout.of(sensed.position, "tee"))
        return 0.2 * touch + 0.4 * turned * nearness(tee.position, mark.position) + 0.4 * covered(seen)

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        tee, mark = _flats(sensed, layout)
        enough = torch.where(layout.of(sensed.let_go, "tee"), COVERED, WELL_COVERED)
        done = covered(tee.seen_from(mark)) > enough
        return push_flat(sensed, tee, mark, _rim(sensed.position.device), LEVER_M, done)


def covered(tee: Flat) -> Float[Tensor, " n"]:
    """The share of the mark under the T, seen from the mark, which is as large: of points all over the T those inside
    the mark's outline.

    Near ``COVERED`` it is right to half a percent.
    """
    middle, half = _boxes(tee.position.device)
    inside = (tee.outwards(_points(tee.position.device))[..., None, :] - middle).abs() < half
    return inside.all(-1).any(-1).float().mean(-1)


@lru_cache
def _points(device: torch.device) -> Float[Tensor, "k 2"]:
    """Points spread evenly over the T, in no rows that an edge could lie along (Roberts' R2 sequence)."""
    parts = []
    for middle, half in zip(*_boxes(torch.device("cpu")), strict=True):
        count = round(4 * float(half.prod()) / UNIT_M**2 * POINTS_PER_SQUARE)
        steps = torch.arange(count, dtype=torch.float64)[:, None]
        unit = (0.5 + steps * torch.tensor([1 / _PLASTIC, 1 / _PLASTIC**2])) % 1
        parts.append(middle + (2 * unit.float() - 1) * half)
    return torch.cat(parts).to(device)


def _boxes(device: torch.device) -> tuple[Float[Tensor, "2 2"], Float[Tensor, "2 2"]]:
    """Centres and half extents of the T's rectangles."""
    middles, halves = zip(*TEE_BOXES_M.values(), strict=True)
    return constant(middles, device), constant(halves, device)


def _flats(sensed: Sensed, layout: Layout) -> tuple[Flat, Flat]:
    """Where the T and its mark lie."""
    tee, mark = (
        Flat(
            position=layout.of(sensed.position, role)[:, :2],
            rotation=matrix_from_quat(layout.of(sensed.quat, role))[:, :2, :2],
        )
        for role in ("tee", "mark")
    )
    return tee, mark


@lru_cache
def _rim(device: torch.device) -> Rim:
    """Where a finger fits: along the bar's top, under its arms, at the ends, on both sides of the stem and below it."""
    sides = (-1.0, 1.0)
    rim = (
        *((x, 4.0, 0.0, -1.0) for x in (-1.6, -0.8, 0.0, 0.8, 1.6)),
        *((1.5 * side, 3.0, 0.0, 1.0) for side in sides),
        *((2.0 * side, 3.5, -side, 0.0) for side in sides),
        *((0.5 * side, y, -side, 0.0) for side in sides for y in (0.3, 1.2, 2.1)),
        (0.0, 0.0, 0.0, 1.0),
    )
    table = torch.tensor(rim, device=device)
    return Rim(point=(table[:, :2] - torch.tensor([0.0, CENTRE_UNITS], device=device)) * UNIT_M, inward=table[:, 2:])

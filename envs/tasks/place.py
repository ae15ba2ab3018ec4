"""Place: put the named cube into the named bin.

*Randomisation*: 2–4 cubes of distinct colours in a 3 × 2 grid, displaced by ±2 cm and turned by ±0.3 rad; a white and
a black bin left and right of them, sides drawn, each displaced by ±2 cm. *Success*: the named cube lies inside the
named bin and the gripper has let go. *Dense reward*: nearness of the tool to the cube, and of the cube to the bin.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.language import Phrasings
from envs.props.base import Region
from envs.props.bin import BIN_HALF_M, BIN_WALL_M, Bin
from envs.props.block import CUBE_HALF_M
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout, scatter
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.choice import blocks, chance_among, choose_block
from envs.tasks.motion import GRASP_WITHIN_M, Width, holds, lift, move_to, nearness

MIDDLE = Region(
    name="middle",
    cells_m=tuple((x, y) for x in (0.36, 0.48, 0.60) for y in (-0.06, 0.06)),
    jitter_m=0.02,
    yaw_rad=0.3,
)
SIDES = Region(name="sides", cells_m=((0.48, 0.25), (0.48, -0.25)), jitter_m=0.02)
CARRY_M = 0.14
RELEASE_M = 0.07
OPEN_GAP_M = 0.06
_BINS = tuple(Bin(name=f"bin{i}", region=SIDES) for i in range(2))


class Place(Task):
    """Carry the named cube to the named bin and let go."""

    name = "place"
    max_episode_steps = 140
    props = (*blocks(MIDDLE), *_BINS)
    chance = chance_among((2, 3, 4), receivers=len(_BINS))
    phrasings = Phrasings(
        train=(
            "put the {block} in the {bin}",
            "place the {block} into the {bin}",
            "drop the {block} into the {bin}",
            "move the {block} to the {bin}",
            "take the {block} and put it in the {bin}",
        ),
        held_out=(
            "pick up the {block} and place it in the {bin}",
            "put the {block} into the {bin}",
            "please drop the {block} in the {bin}",
        ),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        names = [prop.name for prop in self.props if prop.region is MIDDLE]
        layout = choose_block(random, scatter(random, self.props), names)
        bins = layout.slots([prop.name for prop in _BINS])
        return layout.with_roles(bin=bins[random.integers("bin", 1, len(_BINS))[:, 0]])

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        return inside(sensed, layout) & (sensed.gap > OPEN_GAP_M)

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        block, bin_position = layout.of(sensed.position, "block"), layout.of(sensed.position, "bin")
        carried = nearness(block[:, :2], bin_position[:, :2])
        return 0.4 * nearness(sensed.tool_position, block) + 0.6 * carried

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        block, bin_position = layout.of(sensed.position, "block"), layout.of(sensed.position, "bin")
        return put_into(sensed, block, bin_position, 2 * CUBE_HALF_M * layout.of(layout.scale, "block"))


def inside(sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
    """Does the thing with the role *block* lie in the one with the role *bin*?"""
    offset = (layout.of(sensed.position, "block") - layout.of(sensed.position, "bin")).abs()
    return (offset[:, :2].amax(-1) < BIN_HALF_M) & (offset[:, 2] < BIN_WALL_M)


def put_into(
    sensed: Sensed,
    block: Float[Tensor, "n 3"],
    receiver: Float[Tensor, "n 3"],
    width_m: Width = 2 * CUBE_HALF_M,
    within_m: float = GRASP_WITHIN_M,
) -> Float[Tensor, "n 7"]:
    """Expert moves that grasp ``block`` as ``lift`` does, carry it over ``receiver``, and let go."""
    grasp = lift(sensed, block, CARRY_M, width_m, within_m)
    held = holds(sensed, block, width_m)
    sideways = (receiver - block)[:, :2].norm(dim=-1)
    # A funnel upwards and then down: rise before moving, move, then lower over the receiver.
    high_enough = (sensed.tool_position[:, 2] > CARRY_M - 0.03) | (sideways < 0.08)
    height = RELEASE_M + (3 * (sideways - 0.015)).clamp(0, CARRY_M - RELEASE_M)
    over_bin = torch.cat((receiver[:, :2], height[:, None]), -1)
    release = (sideways < 0.04) & (sensed.tool_position[:, 2] < RELEASE_M + 0.045)
    carry = move_to(sensed, over_bin, (~release).float())
    # Once let go inside, back off upwards with the fingers open.
    released = (sideways < BIN_HALF_M) & (block[:, 2] < RELEASE_M + 0.045) & ~held
    up = torch.cat((sensed.tool_position[:, :2], torch.full_like(height[:, None], CARRY_M)), -1)
    retreat = move_to(sensed, up, torch.zeros_like(height))
    action = torch.where((held & high_enough)[:, None], carry, grasp)
    return torch.where(released[:, None], retreat, action)

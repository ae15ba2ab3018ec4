"""Reorient: stand up the named fallen block.

*Randomisation*: 2–3 blocks of distinct colours, 4 × 4 × 11 cm, lying side by side, displaced by ±2.5 cm and turned by
±0.5 rad. *Success*: for a quarter of a second the named block's long axis is within 10° of the vertical and its foot on
the table, at rest and touched by nothing of the robot. *Dense reward*: nearness of the tool to the block, and how
upright it is.
"""

import math

from jaxtyping import Bool, Float
from torch import Tensor

from envs.language import Phrasings
from envs.props.base import Region
from envs.random import EpisodeRandom
from envs.rotations import matrix_from_quat
from envs.scenes.layout import Layout, scatter
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.choice import blocks, chance_among, choose_named
from envs.tasks.motion import nearness
from envs.tasks.uprighting import stand_up

HALF_LENGTH_M, HALF_WIDTH_M = 0.055, 0.02
UPRIGHT_RAD = math.radians(10)
HEIGHT_SLACK_M = 0.008
LANES = Region(name="lanes", cells_m=((0.45, -0.2), (0.45, 0.0), (0.45, 0.2)), jitter_m=0.025, yaw_rad=0.5)


class Reorient(Task):
    """Stand the named block on its end and let go."""

    name = "reorient"
    max_episode_steps = 140
    dwell_steps = 5
    props = blocks(
        LANES,
        3,
        half_m=(HALF_LENGTH_M, HALF_WIDTH_M, HALF_WIDTH_M),
        word="block",
        resizable=False,
    )
    chance = chance_among((2, 3))
    phrasings = Phrasings(
        train=(
            "stand up the {block}",
            "stand the {block} upright",
            "set the {block} on its end",
            "turn the {block} upright",
            "pick up the fallen {block} and stand it up",
        ),
        held_out=(
            "put the {block} on its end so that it stands",
            "make the {block} stand up",
            "please stand up the fallen {block}",
        ),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        return choose_named(random, scatter(random, self.props), [prop.name for prop in self.props])

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        upright = _long_axis(sensed, layout)[:, 2].abs() > math.cos(UPRIGHT_RAD)
        on_the_table = (layout.of(sensed.position, "block")[:, 2] - HALF_LENGTH_M).abs() < HEIGHT_SLACK_M
        return upright & on_the_table & layout.of(sensed.left_alone, "block")

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        reached = nearness(sensed.tool_position, layout.of(sensed.position, "block"))
        return 0.4 * reached + 0.6 * _long_axis(sensed, layout)[:, 2].abs()

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        block = layout.of(sensed.position, "block")
        return stand_up(sensed, block, _long_axis(sensed, layout), (HALF_LENGTH_M, HALF_WIDTH_M))


def _long_axis(sensed: Sensed, layout: Layout) -> Float[Tensor, "n 3"]:
    """The direction, either way, of the named block's longest side."""
    return matrix_from_quat(layout.of(sensed.quat, "block"))[:, :, 0]

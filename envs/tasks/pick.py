"""Pick: lift the named cube off the table.

*Randomisation*: as in reach. *Success*: for a quarter of a second the named cube is between the fingers, its
underside 6 cm above the table. *Dense reward*: nearness of the tool to the cube, and how high it is.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from envs.language import Phrasings
from envs.props.block import CUBE_HALF_M
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout, scatter
from envs.scenes.regions import TABLE
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.choice import blocks, chance_among, choose_named
from envs.tasks.motion import lift, nearness

LIFTED_M = 0.06


class Pick(Task):
    """Grasp the named cube and raise it."""

    name = "pick"
    max_episode_steps = 100
    dwell_steps = 5
    props = blocks(TABLE)
    chance = chance_among((2, 3, 4))
    achieved = "the gripper holds the {block} above the table"
    phrasings = Phrasings(
        train=(
            "pick up the {block}",
            "lift the {block}",
            "grasp the {block} and lift it",
            "raise the {block} off the table",
            "take the {block}",
        ),
        held_out=("lift up the {block}", "pick the {block} off the table", "please pick up the {block}"),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        return choose_named(random, scatter(random, self.props), [prop.name for prop in self.props])

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        return layout.of(sensed.held, "block") & (_raised_m(sensed, layout) > LIFTED_M)

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        reached = nearness(sensed.tool_position, layout.of(sensed.position, "block"))
        return 0.5 * reached + 0.5 * (_raised_m(sensed, layout) / LIFTED_M).clamp(0, 1)

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        width_m = 2 * CUBE_HALF_M * layout.of(layout.scale, "block")
        return lift(sensed, layout.of(sensed.position, "block"), 0.14, width_m)


def _raised_m(sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
    """How far the named cube's underside is above the table."""
    return layout.of(sensed.position, "block")[:, 2] - CUBE_HALF_M * layout.of(layout.scale, "block")

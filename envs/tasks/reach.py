"""Reach: touch the named cube.

*Randomisation*: 2–4 cubes of distinct colours in a 3 × 4 grid, displaced by ±2.5 cm and turned by ±0.3 rad.
*Success*: for a quarter of a second the point between the fingertips is within a centimetre of the ball that fits into
the named cube: who flies past is not there. *Dense reward*: nearness of the tool to the cube.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.constants import constant
from envs.language import Phrasings
from envs.props.block import CUBE_HALF_M
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout, scatter
from envs.scenes.regions import TABLE
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.choice import blocks, chance_among, choose_named
from envs.tasks.motion import above, move_to, nearness

TOUCHING_M = 0.01


class Reach(Task):
    """Touch the named cube with the fingertips."""

    name = "reach"
    max_episode_steps = 60
    dwell_steps = 5
    props = blocks(TABLE)
    chance = chance_among((2, 3, 4))
    achieved = "the gripper touches the {block}"
    phrasings = Phrasings(
        train=(
            "reach the {block}",
            "touch the {block}",
            "move to the {block}",
            "go and touch the {block}",
            "reach for the {block}",
        ),
        held_out=("go to the {block} and touch it", "reach out to the {block}", "please touch the {block}"),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        return choose_named(random, scatter(random, self.props), [prop.name for prop in self.props])

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        away_m = (sensed.tool_position - layout.of(sensed.position, "block")).norm(dim=-1)
        return away_m < CUBE_HALF_M * layout.of(layout.scale, "block") + TOUCHING_M

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        return nearness(sensed.tool_position, layout.of(sensed.position, "block"))

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        block = layout.of(sensed.position, "block")
        goal = above(block + constant([0.0, 0.0, 0.015], block.device), sensed)
        return move_to(sensed, goal, torch.zeros_like(sensed.gap))

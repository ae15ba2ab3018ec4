"""Reach: touch the named cube.

*Randomisation*: 2–4 cubes of distinct colours in a 3 × 4 grid, displaced by ±2.5 cm and turned by ±0.3 rad.
*Success*: the tool's tip is within 3 cm of the named cube's centre. *Dense reward*: nearness of the tool to it.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.language import Phrasings
from envs.props.base import Region
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout, scatter
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.choice import blocks, chance_among, choose_block
from envs.tasks.motion import above, move_to, nearness

TABLE = Region(
    name="table",
    cells_m=tuple((x, y) for x in (0.36, 0.48, 0.60) for y in (-0.21, -0.07, 0.07, 0.21)),
    jitter_m=0.025,
    yaw_rad=0.3,
)
"""The whole of the table in front of the robot."""


class Reach(Task):
    """Touch the named cube with the fingertips."""

    name = "reach"
    max_episode_steps = 60
    props = blocks(TABLE)
    chance = chance_among((2, 3, 4))
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
        return choose_block(random, scatter(random, self.props), [prop.name for prop in self.props])

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        return (sensed.tool_position - layout.of(sensed.position, "block")).norm(dim=-1) < 0.03

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        return nearness(sensed.tool_position, layout.of(sensed.position, "block"))

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        block = layout.of(sensed.position, "block")
        goal = above(block + torch.tensor([0.0, 0.0, 0.015], device=block.device), sensed)
        return move_to(sensed, goal, torch.zeros(len(block), device=block.device))

"""Pick: lift the named cube off the table.

*Randomisation*: as in reach. *Success*: the named cube's centre is 8 cm above the table.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.language import Phrasings
from envs.random import EpisodeRandom
from envs.scenes.tabletop import Layout, Sensed
from envs.tasks.base import Task, no_bins, pick, scatter_cubes
from envs.tasks.motion import above, at_grasp, holds, move_to
from envs.tasks.reach import CELLS_M

LIFTED_M = 0.08


class Pick(Task):
    """Grasp the named cube and raise it."""

    name = "pick"
    max_episode_steps = 100
    phrasings = Phrasings(
        train=(
            "pick up the {cube}",
            "lift the {cube}",
            "grasp the {cube} and lift it",
            "raise the {cube} off the table",
            "take the {cube}",
        ),
        held_out=("lift up the {cube}", "pick the {cube} off the table", "please pick up the {cube}"),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        return Layout(**scatter_cubes(random, self.num_cubes, CELLS_M, 0.025), **no_bins(len(random)))

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        return pick(sensed.cube_position, layout.cube)[:, 2] > LIFTED_M

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        cube = pick(sensed.cube_position, layout.cube)
        near = 1 - torch.tanh(5 * (sensed.tool_position - cube).norm(dim=-1))
        return 0.5 * near + 0.5 * (cube[:, 2] / LIFTED_M).clamp(0, 1)

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        return lift(sensed, pick(sensed.cube_position, layout.cube), height_m=0.14)


def lift(sensed: Sensed, cube: Float[Tensor, "n 3"], height_m: float) -> Float[Tensor, "n 7"]:
    """Expert moves that grasp ``cube`` and bring it ``height_m`` above the table."""
    held = holds(sensed, cube)
    raised = torch.cat((sensed.tool_position[:, :2], torch.full_like(cube[:, 2:], height_m)), -1)
    goal = torch.where(held[:, None], raised, above(cube, sensed))
    return move_to(sensed, goal, (held | at_grasp(sensed, cube)).float())

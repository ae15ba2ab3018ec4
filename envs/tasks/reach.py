"""Reach: touch the named cube.

*Randomisation*: 2–4 cubes of distinct colours in a 3 × 4 grid, displaced by ±2.5 cm and turned by ±0.3 rad.
*Success*: the tool's tip is within 3 cm of the named cube's centre.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.language import Phrasings
from envs.random import EpisodeRandom
from envs.scenes.tabletop import Layout, Sensed
from envs.tasks.base import Task, no_bins, pick, scatter_cubes
from envs.tasks.motion import above, move_to

CELLS_M = [(x, y) for x in (0.36, 0.48, 0.60) for y in (-0.21, -0.07, 0.07, 0.21)]


class Reach(Task):
    """Touch the named cube with the fingertips."""

    name = "reach"
    max_episode_steps = 60
    phrasings = Phrasings(
        train=(
            "reach the {cube}",
            "touch the {cube}",
            "move to the {cube}",
            "go and touch the {cube}",
            "reach for the {cube}",
        ),
        held_out=("go to the {cube} and touch it", "reach out to the {cube}", "please touch the {cube}"),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        return Layout(**scatter_cubes(random, self.num_cubes, CELLS_M, 0.025), **no_bins(len(random)))

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        return self._distance(sensed, layout) < 0.03

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        return 1 - torch.tanh(5 * self._distance(sensed, layout))

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        cube = pick(sensed.cube_position, layout.cube)
        goal = above(cube + torch.tensor([0.0, 0.0, 0.015], device=cube.device), sensed)
        return move_to(sensed, goal, torch.zeros(len(cube), device=cube.device))

    def _distance(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        return (sensed.tool_position - pick(sensed.cube_position, layout.cube)).norm(dim=-1)

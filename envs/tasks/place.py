"""Place: put the named cube into the named bin.

*Randomisation*: 2–4 cubes of distinct colours in a 3 × 2 grid, displaced by ±2 cm and turned by ±0.3 rad; a white and
a black bin left and right of them, sides drawn, each displaced by ±2 cm. *Success*: the named cube lies inside the
named bin and the gripper has let go.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.language import Phrasings
from envs.random import EpisodeRandom
from envs.scenes.tabletop import BIN_HALF_M, BIN_WALL_M, Layout, Sensed
from envs.tasks.base import Task, pick, scatter_cubes
from envs.tasks.motion import holds, move_to
from envs.tasks.pick import lift

CELLS_M = [(x, y) for x in (0.36, 0.48, 0.60) for y in (-0.06, 0.06)]
CARRY_M = 0.14
RELEASE_M = 0.07


class Place(Task):
    """Carry the named cube to the named bin and let go."""

    name = "place"
    max_episode_steps = 140
    num_bins = 2
    phrasings = Phrasings(
        train=(
            "put the {cube} in the {bin}",
            "place the {cube} into the {bin}",
            "drop the {cube} into the {bin}",
            "move the {cube} to the {bin}",
            "take the {cube} and put it in the {bin}",
        ),
        held_out=(
            "pick up the {cube} and place it in the {bin}",
            "put the {cube} into the {bin}",
            "please drop the {cube} in the {bin}",
        ),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        n = len(random)
        sides = torch.tensor([[0.48, 0.25, 0.0], [0.48, -0.25, 0.0]]).expand(n, 2, 3)
        offset = random.uniform("bin_jitter", 4, -0.02, 0.02).reshape(n, 2, 2)
        return Layout(
            **scatter_cubes(random, self.num_cubes, CELLS_M, 0.02),
            bin_position=sides + torch.cat((offset, torch.zeros(n, 2, 1)), -1),
            bin_colour=random.permutation("bin_colours", 2),
            bin=random.integers("bin", 1, 2)[:, 0],
        )

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        cube = pick(sensed.cube_position, layout.cube)
        offset = (cube - pick(layout.bin_position, layout.bin)).abs()
        inside = (offset[:, :2].amax(-1) < BIN_HALF_M) & (offset[:, 2] < BIN_WALL_M)
        return inside & (sensed.gap > 0.06)

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        cube = pick(sensed.cube_position, layout.cube)
        bin_position = pick(layout.bin_position, layout.bin)
        near = 1 - torch.tanh(5 * (sensed.tool_position - cube).norm(dim=-1))
        carried = 1 - torch.tanh(5 * (cube - bin_position)[:, :2].norm(dim=-1))
        return 0.4 * near + 0.6 * carried

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        cube = pick(sensed.cube_position, layout.cube)
        bin_position = pick(layout.bin_position, layout.bin)
        grasp = lift(sensed, cube, CARRY_M)
        held = holds(sensed, cube)
        sideways = (bin_position - cube)[:, :2].norm(dim=-1)
        # A funnel upwards and then down: rise before moving, move, then lower over the bin.
        high_enough = (sensed.tool_position[:, 2] > CARRY_M - 0.03) | (sideways < 0.08)
        height = RELEASE_M + (3 * (sideways - 0.015)).clamp(0, CARRY_M - RELEASE_M)
        over_bin = torch.cat((bin_position[:, :2], height[:, None]), -1)
        release = (sideways < 0.04) & (sensed.tool_position[:, 2] < RELEASE_M + 0.045)
        carry = move_to(sensed, over_bin, (~release).float())
        # Once let go inside the bin, back off upwards with the fingers open.
        inside = (sideways < BIN_HALF_M) & (cube[:, 2] < RELEASE_M + 0.045)
        up = torch.cat((sensed.tool_position[:, :2], torch.full_like(height[:, None], CARRY_M)), -1)
        retreat = move_to(sensed, up, torch.zeros_like(height))
        action = torch.where((held & high_enough)[:, None], carry, grasp)
        return torch.where((inside & ~held)[:, None], retreat, action)

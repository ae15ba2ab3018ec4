"""Push: slide the named cube over the table onto the named mat, without lifting it.

*Randomisation*: 2–4 cubes of distinct colours in a row before the robot, displaced by ±1.5 cm and turned by ±0.3 rad; a
white and a black mat beyond them, sides drawn, each displaced by ±2 cm. *Success*: the named cube's centre is inside
the named mat and as low as a cube on the table; where the tool is does not matter. *Dense reward*: nearness of the tool
to the cube, and of the cube to the mat.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.language import Phrasings
from envs.props.base import Region
from envs.props.block import CUBE_HALF_M
from envs.props.mat import MAT_HALF_M, Mat
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout, scatter
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.choice import blocks, chance_among, choose_block
from envs.tasks.motion import hop, move_to, nearness, pointing_down, turn_to

ROW = Region(
    name="row",
    cells_m=tuple((0.41, y) for y in (-0.165, -0.055, 0.055, 0.165)),
    jitter_m=0.015,
    yaw_rad=0.3,
)
BEYOND = Region(name="beyond", cells_m=((0.59, 0.11), (0.59, -0.11)), jitter_m=0.02)
LOW_M = 0.02
BEHIND_M = 0.055
STRIDE_M = 0.04
SLIPPED_M = 0.016
_MATS = tuple(Mat(name=f"mat{i}", region=BEYOND) for i in range(2))


class Push(Task):
    """Push the named cube onto the named mat."""

    name = "push"
    max_episode_steps = 120
    props = (*blocks(ROW), *_MATS)
    chance = chance_among((2, 3, 4), receivers=len(_MATS))
    phrasings = Phrasings(
        train=(
            "push the {block} onto the {mat}",
            "slide the {block} onto the {mat}",
            "push the {block} to the {mat}",
            "shove the {block} over to the {mat}",
            "push the {block} until it is on the {mat}",
        ),
        held_out=(
            "move the {block} onto the {mat} by pushing it",
            "nudge the {block} onto the {mat}",
            "please push the {block} onto the {mat}",
        ),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        names = [prop.name for prop in self.props if prop.region is ROW]
        layout = choose_block(random, scatter(random, self.props), names)
        mats = layout.slots([prop.name for prop in _MATS])
        return layout.with_roles(mat=mats[random.integers("mat", 1, len(_MATS))[:, 0]])

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        block, mat = layout.of(sensed.position, "block"), layout.of(sensed.position, "mat")
        inside = (block - mat)[:, :2].abs().amax(-1) < MAT_HALF_M
        return inside & (block[:, 2] < CUBE_HALF_M + 0.005)

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        block, mat = layout.of(sensed.position, "block"), layout.of(sensed.position, "mat")
        return 0.3 * nearness(sensed.tool_position, block) + 0.7 * nearness(block[:, :2], mat[:, :2])

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        block, mat = layout.of(sensed.position, "block"), layout.of(sensed.position, "mat")
        return push_towards(sensed, block[:, :2], mat[:, :2])


def push_towards(sensed: Sensed, thing: Float[Tensor, "n 2"], goal: Float[Tensor, "n 2"]) -> Float[Tensor, "n 7"]:
    """Expert moves that push a cube at ``thing`` straight to ``goal``, the flat of the closed fingers against it."""
    way = goal - thing
    forward = way / way.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    left = torch.stack((-forward[:, 1], forward[:, 0]), -1)
    tool = sensed.tool_position[:, :2] - thing
    ahead, aside = (tool * forward).sum(-1), (tool * left).sum(-1)
    # Low and behind the cube, not too far aside: push on, leading the tool back onto the line.
    low = sensed.tool_position[:, 2] < LOW_M + 0.02
    pushing = low & (ahead < -0.02) & (ahead > -BEHIND_M - 0.03) & (aside.abs() < SLIPPED_M)
    level = torch.full_like(ahead[:, None], LOW_M)
    onwards = torch.cat((thing + (ahead + STRIDE_M)[:, None] * forward - aside[:, None] * left, level), -1)
    behind = torch.cat((thing - BEHIND_M * forward, level), -1)
    goal = torch.where(pushing[:, None], onwards, hop(behind, sensed))
    yaw = torch.atan2(forward[:, 1], forward[:, 0])
    yaw = torch.remainder(yaw + torch.pi / 2, torch.pi) - torch.pi / 2  # the fingers look the same from both sides
    return move_to(sensed, goal, torch.ones_like(ahead), turn=turn_to(sensed, pointing_down(yaw)))

"""Push: slide the named cube over the table onto the named mat, without lifting it.

*Randomisation*: 2–4 cubes of distinct colours in a row before the robot, displaced by ±1.5 cm and turned by ±0.3 rad; a
white and a black mat beyond them, sides drawn, each displaced by ±2 cm. *Success*: for a quarter of a second the
named cube rests on the table, its centre over the named mat, and nothing of the robot touches it. *Dense reward*:
nearness of the tool to the cube, and of the cube to the mat.
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
from envs.scenes.regions import BEYOND
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.choice import blocks, chance_among, choose_named
from envs.tasks.motion import hop, move_to, nearness, pointing_down, turn_to

ROW = Region(
    name="row",
    cells_m=tuple((0.41, y) for y in (-0.165, -0.055, 0.055, 0.165)),
    jitter_m=0.015,
    yaw_rad=0.3,
)
LOW_M = 0.02
BEHIND_M = 0.055
STRIDE_M = 0.04
SLIPPED_M = 0.016
WELL_INSIDE_M = 0.015
LEAVE_M = 0.05
_MATS = tuple(Mat(name=f"mat{i}", region=BEYOND) for i in range(2))


class Push(Task):
    """Push the named cube onto the named mat."""

    name = "push"
    max_episode_steps = 120
    dwell_steps = 5
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
        layout = choose_named(random, scatter(random, self.props), names)
        mats = layout.slots([prop.name for prop in _MATS])
        return layout.with_roles(mat=mats[random.integers("mat", 1, len(_MATS))[:, 0]])

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        """Mats are never turned."""
        low = layout.of(sensed.position, "block")[:, 2] < CUBE_HALF_M * layout.of(layout.scale, "block") + 0.005
        return low & (_inside_m(sensed, layout) > 0) & layout.of(sensed.left_alone, "block")

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        block, mat = layout.of(sensed.position, "block"), layout.of(sensed.position, "mat")
        return 0.3 * nearness(sensed.tool_position, block) + 0.7 * nearness(block[:, :2], mat[:, :2])

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        """Push from behind; once the cube is well on the mat, draw back and rise."""
        block, mat = layout.of(sensed.position, "block"), layout.of(sensed.position, "mat")
        push = push_towards(sensed, block[:, :2], mat[:, :2])
        away = torch.nn.functional.normalize((sensed.tool_position - block)[:, :2], dim=-1)
        leave = sensed.tool_position + LEAVE_M * torch.nn.functional.pad(away, (0, 1), value=1.0)
        # Beside the cube it may as well be pushed a little further in.
        beside = sensed.tool_position[:, 2] < LOW_M + 0.02
        done = _inside_m(sensed, layout) > torch.where(beside, WELL_INSIDE_M, 0.0)
        return torch.where(done[:, None], move_to(sensed, leave, push[:, 6]), push)


def _inside_m(sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
    """How far the named cube's centre is from the nearest edge of the named mat; below 0 beside it."""
    offset = layout.of(sensed.position, "block") - layout.of(sensed.position, "mat")
    return MAT_HALF_M * layout.of(layout.scale, "mat") - offset[:, :2].abs().amax(-1)


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

"""Stack: put the named cube on top of another named cube.

*Randomisation*: 2–4 cubes of distinct colours in a 3 × 4 grid, displaced by ±2.5 cm and turned by ±0.3 rad; two of
them are drawn, one to be moved and one to be its base. *Success*: for a quarter of a second the one stands on the
other, its centre less than half a cube's width beside the base's and within 8 mm of the height it should have, both at
rest and touched by nothing of the robot. *Dense reward*: nearness of the tool to the cube, and of the cube to its
place.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.language import Phrasings
from envs.props.block import CUBE_HALF_M
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout, scatter
from envs.scenes.regions import TABLE
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.choice import blocks, choose_named
from envs.tasks.motion import carry, let_go, nearness

HEIGHT_SLACK_M = 0.008
CRUISE_M = 0.14


class Stack(Task):
    """Carry the named cube onto the named base and let go."""

    name = "stack"
    max_episode_steps = 140
    dwell_steps = 5
    props = blocks(TABLE)
    chance = (1 / 2 + 1 / 6 + 1 / 12) / 3
    phrasings = Phrasings(
        train=(
            "stack the {block} on the {base}",
            "put the {block} on top of the {base}",
            "place the {block} on the {base}",
            "set the {block} down on the {base}",
            "pick up the {block} and stack it on the {base}",
        ),
        held_out=(
            "put the {block} onto the {base}",
            "build a tower with the {block} on top of the {base}",
            "please stack the {block} on top of the {base}",
        ),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        layout = choose_named(random, scatter(random, self.props), [prop.name for prop in self.props])
        block = layout.roles["block"]
        count = layout.present.sum(-1)
        step = 1 + random.integers("base", 1, count[:, None] - 1)[:, 0]
        return layout.with_roles(base=(block + step) % count)

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        offset = layout.of(sensed.position, "block") - _top(sensed, layout)
        half_m = CUBE_HALF_M * layout.of(layout.scale, "base")
        on_top = (offset[:, :2].norm(dim=-1) < half_m) & (offset[:, 2].abs() < HEIGHT_SLACK_M)
        return on_top & layout.of(sensed.left_alone, "block") & layout.of(sensed.left_alone, "base")

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        block = layout.of(sensed.position, "block")
        return 0.4 * nearness(sensed.tool_position, block) + 0.6 * nearness(block, _top(sensed, layout))

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        block, top = layout.of(sensed.position, "block"), _top(sensed, layout)
        offset = block - top
        # Once the fingers open, what counts is that it stands there, not that it could stand better.
        width_m = 2 * CUBE_HALF_M * layout.of(layout.scale, "block")
        enough_m = torch.where(sensed.gap > width_m + 0.006, width_m / 2, 0.008)
        stands = (offset[:, :2].norm(dim=-1) < enough_m) & (offset[:, 2].abs() < HEIGHT_SLACK_M)
        bring = carry(sensed, block, top, cruise_m=CRUISE_M, width_m=width_m)
        return torch.where(stands[:, None], let_go(sensed, width_m), bring)


def _top(sensed: Sensed, layout: Layout) -> Float[Tensor, "n 3"]:
    """Where the centre of a cube is that stands on the base."""
    base = layout.of(sensed.position, "base")
    halves = layout.of(layout.scale, "base") + layout.of(layout.scale, "block")
    return base + CUBE_HALF_M * torch.nn.functional.pad(halves[:, None], (2, 0))

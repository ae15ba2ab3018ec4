"""Stow: put the named cube into the open drawer.

*Randomisation*: 2–4 cubes of distinct colours in a 3 × 2 grid on one side, displaced by ±1.2 cm and turned by ±0.3 rad;
an open drawer on the other, displaced by ±2 cm and turned by ±0.1 rad. *Success*: for a fifth of a second the named
cube lies at rest within the walls of the drawer's tray, and nothing of the robot touches it. *Dense reward*: nearness
of the tool to the cube, and of the cube to the tray.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.language import Phrasings
from envs.props.bin import lies_in_tray
from envs.props.block import CUBE_HALF_M
from envs.props.drawer import TRAVEL_M, DrawerUnit, tray_position
from envs.random import EpisodeRandom
from envs.rotations import compose, matrix_from_quat, rotate
from envs.scenes.layout import Layout, scatter
from envs.scenes.regions import BESIDE, LEFT
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.choice import blocks, chance_among, choose_named
from envs.tasks.dropping import drop_into
from envs.tasks.motion import nearness

SPOTS_M = ((-0.01, 0.03), (-0.01, -0.03))
"""Where in the tray to drop a cube: left or right of its middle, clear of the cabinet."""

_CUBES = blocks(BESIDE)


class Stow(Task):
    """Carry the named cube to the open drawer and let go."""

    name = "stow"
    max_episode_steps = 140
    dwell_steps = 4
    props = (*_CUBES, DrawerUnit(name="drawer", region=LEFT, palette=("white",)))
    chance = chance_among((2, 3, 4))
    phrasings = Phrasings(
        train=(
            "put the {block} in the {drawer}",
            "place the {block} into the {drawer}",
            "drop the {block} into the {drawer}",
            "store the {block} in the {drawer}",
            "take the {block} and put it in the {drawer}",
        ),
        held_out=(
            "stow the {block} in the {drawer}",
            "put the {block} inside the {drawer}",
            "please put the {block} into the {drawer}",
        ),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        layout = scatter(random, self.props)
        names = [prop.name for prop in self.props if prop.region is BESIDE]
        layout = choose_named(random, layout, names).with_roles(drawer="drawer")
        is_drawer = torch.arange(len(self.props), device=random.device) == layout.slot("drawer")
        return replace(layout, opening=is_drawer.float().expand(len(random), -1) * TRAVEL_M)

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        return layout.of(sensed.left_alone, "block") & _lies(sensed, layout)

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        block = layout.of(sensed.position, "block")
        carried = nearness(block[:, :2], _tray(sensed, layout)[:, :2])
        return 0.4 * nearness(sensed.tool_position, block) + 0.6 * carried

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        lies = _lies(sensed, layout) & layout.of(sensed.let_go, "block")
        slot, width_m = layout.roles["block"], 2 * CUBE_HALF_M * layout.of(layout.scale, "block")
        return drop_into(sensed, sensed.position, slot, _tray(sensed, layout), SPOTS_M, width_m, lies)


def _tray(sensed: Sensed, layout: Layout) -> Float[Tensor, "n 3"]:
    where = (layout.of(values, "drawer") for values in (sensed.position, sensed.quat, sensed.opening))
    return tray_position(*where)


def _lies(sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
    """Is the named cube within the walls of the tray, which keeps its size?"""
    to_tray = matrix_from_quat(layout.of(sensed.quat, "drawer")).mT
    offset = rotate(to_tray, layout.of(sensed.position, "block") - _tray(sensed, layout))
    extent = _CUBES[0].extent_m(compose(to_tray, matrix_from_quat(layout.of(sensed.quat, "block"))))
    return lies_in_tray(offset, extent * layout.of(layout.scale, "block")[:, None])

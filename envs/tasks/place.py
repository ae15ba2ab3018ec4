"""Place: put the named cube into the named bin.

*Randomisation*: 2–4 cubes of distinct colours in a 3 × 2 grid, displaced by ±2 cm and turned by ±0.3 rad; a white and a
black bin left and right of them, sides drawn, each displaced by ±2 cm. *Success*: for a fifth of a second the named
cube lies at rest within the walls of the named bin, and nothing of the robot touches it. *Dense reward*: nearness of
the tool to the cube, and of the cube to the bin.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from envs.language import Phrasings
from envs.props.bin import Bin, lies_in_tray
from envs.props.block import Block
from envs.random import EpisodeRandom
from envs.rotations import matrix_from_quat
from envs.scenes.layout import Layout, scatter
from envs.scenes.regions import MIDDLE, SIDES
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.choice import blocks, chance_among, choose_named
from envs.tasks.dropping import put_into
from envs.tasks.motion import GRASP_WITHIN_M, nearness

_CUBES, _BINS = blocks(MIDDLE), tuple(Bin(name=f"bin{i}", region=SIDES) for i in range(2))


class Place(Task):
    """Carry the named ``thing`` to the named bin and let go; the fingers close when they are ``grasp_within_m`` of it.

    Bins are never turned.
    """

    name = "place"
    max_episode_steps = 140
    dwell_steps = 4
    props = (*_CUBES, *_BINS)
    thing: Block = _CUBES[0]
    grasp_within_m = GRASP_WITHIN_M
    chance = chance_among((2, 3, 4), receivers=len(_BINS))
    achieved = "the {block} is in the {bin}"
    phrasings = Phrasings(
        train=(
            "put the {block} in the {bin}",
            "place the {block} into the {bin}",
            "drop the {block} into the {bin}",
            "move the {block} to the {bin}",
            "take the {block} and put it in the {bin}",
        ),
        held_out=(
            "pick up the {block} and place it in the {bin}",
            "put the {block} into the {bin}",
            "please drop the {block} in the {bin}",
        ),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        names = [prop.name for prop in self.props if prop.region is MIDDLE]
        layout = choose_named(random, scatter(random, self.props), names)
        bins = layout.slots([prop.name for prop in _BINS])
        return layout.with_roles(bin=bins[random.integers("bin", 1, len(_BINS))[:, 0]])

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        offset = layout.of(sensed.position, "block") - layout.of(sensed.position, "bin")
        extent = self.thing.extent_m(matrix_from_quat(layout.of(sensed.quat, "block")))
        scale, bin_scale = layout.of(layout.scale, "block"), layout.of(layout.scale, "bin")
        return layout.of(sensed.left_alone, "block") & lies_in_tray(offset, extent * scale[:, None], bin_scale)

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        block, bin_position = layout.of(sensed.position, "block"), layout.of(sensed.position, "bin")
        carried = nearness(block[:, :2], bin_position[:, :2])
        return 0.4 * nearness(sensed.tool_position, block) + 0.6 * carried

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        block, bin_position = layout.of(sensed.position, "block"), layout.of(sensed.position, "bin")
        width_m = 2 * self.thing.half_m[1] * layout.of(layout.scale, "block")
        return put_into(sensed, block, bin_position, width_m, self.grasp_within_m)

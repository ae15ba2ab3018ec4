"""Recall: press the button, which hides the cubes under boxes, then touch the box over the named cube.

*Randomisation*: three cubes of distinct colours in a 2 × 3 grid, displaced by ±1.5 cm and turned by ±0.3 rad; a button
on one side, drawn, displaced by ±1 cm. When it is pressed, boxes that look all alike come down over the cubes. The arm
is at the button then, far from all of them: neither the picture nor its own posture tells which cube is where.
*Memory*: whether the cubes are hidden, and whether a wrong box was touched. *Success*: the button has been pressed, and
then the robot touches the right box for a fifth of a second, never having touched another one. *Dense reward*: nearness
of the tool to the button and how far that is pressed, then nearness to the box.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.constants import constant
from envs.language import Phrasings
from envs.props.base import Region
from envs.props.block import Block
from envs.props.button import PushButton
from envs.props.colours import PLAIN
from envs.props.cover import COVER_HEIGHT_M, Cover
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout, scatter
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.motion import hop, move_to, nearness
from envs.tasks.pressing import PRESSED_M, cap, press, pressed

COUNT = 3
CELLS_M = tuple((x, y) for x in (0.44, 0.58) for y in (-0.12, 0.0, 0.12))
CUBES = Region(name="shown", cells_m=CELLS_M, jitter_m=0.015, yaw_rad=0.3)
BOXES = Region(name="hidden", cells_m=CELLS_M)
ASIDE = Region(name="aside", cells_m=((0.40, 0.29), (0.40, -0.29)), jitter_m=0.01)
AWAY_M = tuple((-20.0, 10.0 + 0.3 * i, 0.0) for i in range(COUNT))
TOUCH_STEPS = 4
_CUBES = tuple(Block(name=f"shown{i}", region=CUBES) for i in range(COUNT))
_BOXES = tuple(Cover(name=f"box{i}", region=BOXES, hides=tuple(cube.name for cube in _CUBES)) for i in range(COUNT))


class Recall(Task):
    """Look where the named cube is, press the button, and find the cube again."""

    name = "recall"
    max_episode_steps = 120
    stages = 2
    rearranges = True
    props = (*_CUBES, *_BOXES, PushButton(name="button", region=ASIDE, palette=(PLAIN[0],)))
    chance = 1 / COUNT
    phrasings = Phrasings(
        train=(
            "press the {button}, then touch the box that hides the {block}",
            "push the {button} and then touch the box over the {block}",
            "press the {button}; after that, reach for the box with the {block} under it",
            "first press the {button}, then touch the box where the {block} was",
            "hit the {button} and find the {block}: touch its box",
        ),
        held_out=(
            "press the {button}, then point out the box that covers the {block}",
            "touch the box on top of the {block}, but press the {button} before that",
            "please press the {button} and show me which box the {block} is under",
        ),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        """Boxes wait out of sight."""
        away = constant(AWAY_M, random.device).expand(len(random), -1, -1)
        named = random.integers("block", 1, COUNT)[:, 0]
        return _with_boxes_at(away, scatter(random, self.props)).with_roles(block=named, button="button")

    def begin(self, layout: Layout) -> Layout:
        layout = super().begin(layout)
        return layout.remembering(wrong=torch.zeros_like(layout.memory["stage"], dtype=torch.bool))

    def advance(self, sensed: Sensed, layout: Layout, running: Bool[Tensor, " n"]) -> Layout:
        """Note a wrong box that is touched, go on as other tasks do, and hide the cubes of who has pressed."""
        named = constant(range(COUNT), sensed.gap.device) == layout.roles["block"][:, None]
        wrong = (sensed.touched[:, COUNT : 2 * COUNT, 0] & ~named).any(-1) & running
        noted = layout.remembering(wrong=layout.memory["wrong"] | wrong)
        after = super().advance(sensed, noted, running)
        now = (after.memory["stage"] > layout.memory["stage"])[:, None, None]
        over = torch.nn.functional.pad(sensed.position[:, :COUNT, :2], (0, 1))
        return _with_boxes_at(torch.where(now, over, layout.position[:, COUNT : 2 * COUNT]), after)

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        box = layout.roles["block"][:, None] + COUNT
        found = ~sensed.let_go.gather(1, box)[:, 0] & ~layout.memory["wrong"]
        return torch.where(layout.memory["stage"] == 0, pressed(sensed, layout), found)

    def present_dwell_steps(self, layout: Layout) -> Int[Tensor, " n"]:
        return torch.where(layout.memory["stage"] == 0, 1, TOUCH_STEPS)

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        stage = layout.memory["stage"]
        share = (layout.of(sensed.opening, "button") / PRESSED_M).clamp(0, 1)
        pressing = 0.6 * nearness(sensed.tool_position, cap(sensed, layout)) + 0.4 * share
        finding = nearness(sensed.tool_position, _top(sensed, layout))
        progress = torch.where(stage == 0, pressing, finding)
        return (stage + torch.where(stage < self.stages, progress, 0.0)) / self.stages

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        """Press the button, then come down on the box."""
        touch = move_to(sensed, hop(_top(sensed, layout), sensed), torch.ones_like(sensed.gap))
        return torch.where((layout.memory["stage"] == 0)[:, None], press(sensed, layout), touch)


def _with_boxes_at(boxes: Float[Tensor, "n m 3"], layout: Layout) -> Layout:
    """``layout`` with the boxes elsewhere."""
    position = layout.position
    return replace(layout, position=torch.cat((position[:, :COUNT], boxes, position[:, 2 * COUNT :]), 1))


def _top(sensed: Sensed, layout: Layout) -> Float[Tensor, "n 3"]:
    """Where the tool is when its fingertips press on the box over the named cube."""
    cube = layout.of(sensed.position, "block")
    return cube * constant([1.0, 1.0, 0.0], cube.device) + constant([0.0, 0.0, COVER_HEIGHT_M], cube.device)

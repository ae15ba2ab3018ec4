"""Slide: push the named knob along its rail to the named end.

*Randomisation*: two rails across the table, one nearer and one further, each displaced by ±2 cm and turned by ±0.2 rad;
their knobs of distinct colours start within 4 cm of the middle; knob and end are drawn. *Success*: for three steps the
named knob is at rest within 1 cm of the named end; left and right are the robot's. *Dense reward*: nearness of the tool
to the knob, and how far the knob has come.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.constants import constant
from envs.language import Phrasings
from envs.props.base import Region
from envs.props.slider import KNOB_HALF_M, KNOB_HEIGHT_M, RAIL_REACH_M, Slider
from envs.random import EpisodeRandom
from envs.rotations import matrix_from_quat, yaw_from_quat
from envs.scenes.layout import Layout, scatter
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.motion import hop, move_to, nearness, pointing_down, turn_to

RAILS = Region(name="rails", cells_m=((0.40, 0.0), (0.57, 0.0)), jitter_m=0.02, yaw_rad=0.2)
START_M = 0.04
AT_END_M, WELL_AT_END_M = 0.01, 0.006
BESIDE_M = KNOB_HALF_M + 0.032
STRIDE_M = 0.04
SLIPPED_M = 0.015
_SLIDERS = tuple(Slider(name=f"slider{i}", region=RAILS) for i in range(2))


def _towards(side: str) -> Phrasings:
    return Phrasings(
        train=(
            f"slide the {{knob}} to the {side}",
            f"push the {{knob}} to the {side}",
            f"move the {{knob}} to the {side} end",
            f"slide the {{knob}} all the way to the {side}",
            f"push the {{knob}} along its rail to the {side}",
        ),
        held_out=(
            f"shift the {{knob}} to the {side}",
            f"bring the {{knob}} to the {side} end of the rail",
            f"please slide the {{knob}} to the {side}",
        ),
    )


_LEFT, _RIGHT = _towards("left"), _towards("right")


class Slide(Task):
    """Push the named knob to the left or to the right end of its rail."""

    name = "slide"
    max_episode_steps = 100
    dwell_steps = 3
    props = _SLIDERS
    chance = 1 / (2 * len(_SLIDERS))
    phrasings = Phrasings(train=_LEFT.train + _RIGHT.train, held_out=_LEFT.held_out + _RIGHT.held_out)

    def sample(self, random: EpisodeRandom) -> Layout:
        """Draw ``side``: +1 is the robot's left, −1 its right."""
        layout = scatter(random, self.props)
        layout = replace(layout, opening=random.uniform("opening", len(_SLIDERS), -START_M, START_M))
        side = 2.0 * random.integers("side", 1, 2)[:, 0] - 1
        return layout.with_roles(knob=random.integers("knob", 1, len(_SLIDERS))[:, 0]).with_draws(side=side)

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        return (_remaining(sensed, layout) < AT_END_M) & layout.of(sensed.at_rest, "knob")

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        knob, _ = _knob(sensed, layout)
        come = 1 - _remaining(sensed, layout) / (2 * RAIL_REACH_M)
        return 0.3 * nearness(sensed.tool_position, knob) + 0.7 * come.clamp(0, 1)

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        """Closed fingers come down on the far side of the knob, push it along the rail, and rise at its end."""
        knob, forward = _knob(sensed, layout)
        offset = sensed.tool_position - knob
        ahead = (offset * forward).sum(-1)
        aside = (offset - ahead[:, None] * forward)[:, :2].norm(dim=-1)
        low = offset[:, 2] < 0.02
        pushing = low & (ahead < -0.02) & (ahead > -BESIDE_M - 0.03) & (aside < SLIPPED_M)
        onwards = knob + (ahead + STRIDE_M)[:, None] * forward
        goal = torch.where(pushing[:, None], onwards, hop(knob - BESIDE_M * forward, sensed))
        there = _remaining(sensed, layout) < WELL_AT_END_M
        goal = torch.where(there[:, None], sensed.tool_position + constant([0.0, 0.0, STRIDE_M], goal.device), goal)
        turn = turn_to(sensed, pointing_down(yaw_from_quat(layout.of(sensed.quat, "knob"))))
        return move_to(sensed, goal, torch.ones_like(ahead), turn=turn)

    def wordings(self, layout: Layout) -> list[Phrasings]:
        return [_LEFT if side > 0 else _RIGHT for side in layout.draws["side"].tolist()]


def _knob(sensed: Sensed, layout: Layout) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """The named knob's middle, and the unit vector along its rail to the named end."""
    along = matrix_from_quat(layout.of(sensed.quat, "knob"))[..., 1]
    up = constant([0.0, 0.0, KNOB_HEIGHT_M], along.device)
    middle = layout.of(sensed.position, "knob") + layout.of(sensed.opening, "knob")[:, None] * along + up
    return middle, layout.draws["side"][:, None] * along


def _remaining(sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
    """How far (m) the named knob still is from the named end."""
    return RAIL_REACH_M - layout.draws["side"] * layout.of(sensed.opening, "knob")

"""Expert moves that stand a fallen rod on its end."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from envs.constants import constant
from envs.scenes.tabletop import Sensed
from envs.tasks.motion import GRASP_SLACK_M, above, move_to, turn_to

TILT_RAD = 0.38
"""How far from straight down the tool leans out over the end it grasps; a quarter turn later it leans the other way."""
GRIP_AT = 0.5
"""Where along the half length that is raised the fingers close: 0 the middle, 1 the end."""
OFF_TABLE_M = 0.0015
"""How far from the table the fingertips stay."""
CLEARANCE_M = 0.02
TURN_SPEED_RAD = 0.08
UPRIGHT_COS, STANDS_COS = 0.998, 0.99
RELEASE_ABOVE_M = 0.004
_SQUEEZE_M = 0.014


def stand_up(
    sensed: Sensed, centre: Float[Tensor, "n 3"], axis: Float[Tensor, "n 3"], half_m: tuple[float, float]
) -> Float[Tensor, "n 7"]:
    """Grasp a rod near one end, turn that end up, set the other on the table and let go.

    ``axis`` is the rod's direction, either way; ``half_m`` half its length and half its width. A quarter turn is more
    than the wrist has to spare in one direction, so the tool starts leaning one way and ends leaning the other way.
    """
    half_length, half_width = half_m
    end = axis * _end_to_raise(sensed, centre, axis)[:, None]
    beside = sensed.tool_position - centre
    along = (beside * end).sum(-1, keepdim=True)
    at_rod = ((along > 0.005) & (along < half_length + 0.01))[:, 0] & ((beside - along * end).norm(dim=-1) < 0.03)
    # Fingers nearly shut hold a corner, not the rod: they open again.
    squarely = sensed.gap > 2 * half_width - _SQUEEZE_M
    held = at_rod & squarely & (sensed.gap < 2 * half_width + GRASP_SLACK_M)
    action = torch.where(held[:, None], _turn_up(sensed, centre, end, half_m), _fetch(sensed, centre, end, half_m))
    stands = (end[:, 2] > STANDS_COS) & (centre[:, 2] < half_length + RELEASE_ABOVE_M)
    return torch.where(stands[:, None], _leave(sensed, half_width), action)


def _fetch(
    sensed: Sensed, centre: Float[Tensor, "n 3"], end: Float[Tensor, "n 3"], half_m: tuple[float, float]
) -> Float[Tensor, "n 7"]:
    """Put the fingers, leaning outwards, around the rod near its ``end``, and close them."""
    half_length, half_width = half_m
    grip = centre + GRIP_AT * half_length * end
    grip = torch.cat((grip[:, :2], grip[:, 2:].clamp_min(sensed.gripper.fingertip_m + OFF_TABLE_M)), -1)
    error = (sensed.tool_position - grip).abs()
    around = (error[:, :2].amax(-1) < 0.01) & (error[:, 2] < 0.006)
    squarely = sensed.gap > 2 * half_width - _SQUEEZE_M
    goal = above(grip, sensed)
    return move_to(sensed, goal, (around & squarely).float(), turn=turn_to(sensed, _leaning(sensed, end)))


def _turn_up(
    sensed: Sensed, centre: Float[Tensor, "n 3"], end: Float[Tensor, "n 3"], half_m: tuple[float, float]
) -> Float[Tensor, "n 7"]:
    """Raise the held rod as far as its turn needs, turn it upright, lower it."""
    half_length, half_width = half_m
    up = constant([0.0, 0.0, 1.0], centre.device).expand_as(centre)
    axle = torch.linalg.cross(end, up, dim=-1)
    sine, cosine = axle.norm(dim=-1), end[:, 2]
    spare_m = torch.where(cosine > UPRIGHT_COS, 0.0, CLEARANCE_M)
    height = half_length * cosine.abs() + half_width * sine + spare_m
    goal = sensed.tool_position + 2.0 * (height - centre[:, 2])[:, None] * up
    speed_rad = (0.5 * torch.atan2(sine, cosine)).clamp_max(TURN_SPEED_RAD) * (centre[:, 2] > height - 0.008)
    turn = torch.nn.functional.normalize(axle, dim=-1) * speed_rad[:, None]
    return move_to(sensed, goal, torch.ones_like(sine), turn=turn)


def _leave(sensed: Sensed, half_width: float) -> Float[Tensor, "n 7"]:
    """Open the fingers and, once they are clear of the rod, draw the tool back."""
    clear = sensed.gap > 2 * half_width + 0.015
    back = torch.where(clear[:, None], -0.06 * sensed.tool_rotation[:, :, 2], 0.0)
    return move_to(sensed, sensed.tool_position + back, torch.zeros_like(sensed.gap))


def _end_to_raise(sensed: Sensed, centre: Float[Tensor, "n 3"], axis: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """±1 along ``axis``: the end that is up already, else the one at the tool, else the one towards the robot."""
    beside = sensed.tool_position - centre
    along = (beside * axis).sum(-1)
    near = (beside.norm(dim=-1) < 0.06) & (along.abs() > 0.01)
    preferred = torch.where(near, along, -axis[:, 0])
    return torch.where(torch.where(axis[:, 2].abs() > 0.3, axis[:, 2], preferred) < 0, -1.0, 1.0)


def _leaning(sensed: Sensed, end: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3 3"]:
    """The tool's orientation that leans out over ``end``, fingers to the sides of the rod."""
    up = constant([0.0, 0.0, 1.0], end.device).expand_as(end)
    side = torch.nn.functional.normalize(torch.linalg.cross(up, end, dim=-1), dim=-1)
    outwards = torch.linalg.cross(side, up, dim=-1)
    pointing = -math.cos(TILT_RAD) * up - math.sin(TILT_RAD) * outwards
    # The fingers are alike: of two orientations take the one nearer to the present.
    side = torch.where(((side * sensed.tool_rotation[:, :, 1]).sum(-1) < 0)[:, None], -side, side)
    return torch.stack((torch.linalg.cross(side, pointing, dim=-1), side, pointing), -1)

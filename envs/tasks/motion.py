"""Moves that scripted experts share."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.scenes.tabletop import CUBE_HALF_M, Sensed

HOVER_M = 0.09
GRASPED_GAP_M = 2 * CUBE_HALF_M + 0.004


def move_to(
    sensed: Sensed, goal: Float[Tensor, "n 3"], gripper: Float[Tensor, " n"], speed_m: float = 0.03
) -> Float[Tensor, "n 7"]:
    """Go straight for ``goal`` (m) at up to ``speed_m`` per step, slowing down near it; no rotation."""
    error = 0.5 * (goal - sensed.tool_position)
    distance = error.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    delta = error * (speed_m / distance).clamp(max=1.0)
    return torch.cat((delta, torch.zeros_like(delta), gripper[:, None]), -1)


def above(point: Float[Tensor, "n 3"], sensed: Sensed, clearance_m: float = HOVER_M) -> Float[Tensor, "n 3"]:
    """A funnel over ``point``: stay ``clearance_m`` high while far to the side, come down as the tool lines up."""
    sideways = (point[:, :2] - sensed.tool_position[:, :2]).norm(dim=-1)
    height = (5 * (sideways - 0.006)).clamp(0.0, clearance_m)
    return torch.cat((point[:, :2], point[:, 2:] + height[:, None]), -1)


def at_grasp(sensed: Sensed, cube: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
    """Is the tool around ``cube``, ready to close?"""
    error = (sensed.tool_position - cube).abs()
    return (error[:, :2].amax(-1) < 0.015) & (error[:, 2] < 0.015)


def holds(sensed: Sensed, cube: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
    """Are the fingers closed on ``cube``?"""
    near = (sensed.tool_position - cube).norm(dim=-1) < 0.03
    return near & (sensed.gap < GRASPED_GAP_M)

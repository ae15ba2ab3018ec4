"""Moves that scripted experts share. All of them look at the present state alone."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.constants import constant
from envs.props.block import CUBE_HALF_M
from envs.rotations import compose, matrix_from_yaw, rotation_vector
from envs.scenes.tabletop import Sensed

HOVER_M = 0.09
SPEED_M = 0.03
"""How far a tool goes in a step at most, unless it is said."""
GRASP_SLACK_M = 0.004
GRASP_WITHIN_M = 0.015
Width = float | Float[Tensor, " n"]
"""Metres between the fingers of a gripper that holds a thing: the same in every world, or not."""


def move_to(
    sensed: Sensed,
    goal: Float[Tensor, "n 3"],
    gripper: Float[Tensor, " n"],
    speed_m: float | Float[Tensor, "n 1"] = SPEED_M,
    turn: Float[Tensor, "n 3"] | None = None,
) -> Float[Tensor, "n 7"]:
    """Go straight for ``goal`` (m) at up to ``speed_m`` per step, slowing down near it.

    Half of what is left per step: the arm lags behind its command by more than a step, and with more it overshoots.
    ``turn`` is the rotation vector (rad, world) of this step, none by default; ``gripper`` 0 open … 1 closed.
    """
    error = 0.5 * (goal - sensed.tool_position)
    distance = error.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    delta = error * (speed_m / distance).clamp(max=1.0)
    turn = torch.zeros_like(delta) if turn is None else turn
    return torch.cat((delta, turn, gripper[:, None]), -1)


def turn_to(sensed: Sensed, rotation: Float[Tensor, "n 3 3"], speed_rad: float = 0.15) -> Float[Tensor, "n 3"]:
    """This step's rotation vector towards the tool orientation ``rotation``, slowing down near it."""
    error = 0.5 * rotation_vector(compose(rotation, sensed.tool_rotation.mT))
    angle = error.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    return error * (speed_rad / angle).clamp(max=1.0)


def pointing_down(yaw_rad: Float[Tensor, " n"]) -> Float[Tensor, "n 3 3"]:
    """The tool's orientation at home (straight down, fingers opening along y) turned by ``yaw_rad`` about +z."""
    return matrix_from_yaw(yaw_rad) * constant([1.0, -1.0, -1.0], yaw_rad.device)


def above(point: Float[Tensor, "n 3"], sensed: Sensed, clearance_m: float = HOVER_M) -> Float[Tensor, "n 3"]:
    """A funnel over ``point``: stay ``clearance_m`` high while far to the side, come down as the tool lines up."""
    sideways = (point[:, :2] - sensed.tool_position[:, :2]).norm(dim=-1)
    height = (5 * (sideways - 0.006)).clamp(0.0, clearance_m)
    return torch.cat((point[:, :2], point[:, 2:] + height[:, None]), -1)


def hop(point: Float[Tensor, "n 3"], sensed: Sensed, clearance_m: float = HOVER_M) -> Float[Tensor, "n 3"]:
    """As :func:`above`, from anywhere: first straight up, so that nothing on the way is swept along."""
    goal = above(point, sensed, clearance_m)
    too_low = (sensed.tool_position[:, 2] < goal[:, 2] - 0.03)[:, None]
    return torch.cat((torch.where(too_low, sensed.tool_position, goal)[:, :2], goal[:, 2:]), -1)


def at_grasp(sensed: Sensed, point: Float[Tensor, "n 3"], within_m: float = GRASP_WITHIN_M) -> Bool[Tensor, " n"]:
    """Is the tool around ``point``, ready to close?"""
    return (sensed.tool_position - point).abs().amax(-1) < within_m


def holds(sensed: Sensed, point: Float[Tensor, "n 3"], width_m: Width = 2 * CUBE_HALF_M) -> Bool[Tensor, " n"]:
    """Are the fingers closed on a thing of ``width_m`` at ``point``?"""
    near = (sensed.tool_position - point).norm(dim=-1) < 0.03
    return near & (sensed.gap < width_m + GRASP_SLACK_M)


def lift(
    sensed: Sensed,
    point: Float[Tensor, "n 3"],
    height_m: float,
    width_m: Width = 2 * CUBE_HALF_M,
    within_m: float = GRASP_WITHIN_M,
) -> Float[Tensor, "n 7"]:
    """Grasp the thing of ``width_m`` at ``point`` and bring the tool ``height_m`` above the table.

    The fingers close when the tool is ``within_m`` of it: round things roll away unless it is small.
    """
    held = holds(sensed, point, width_m)
    raised = torch.cat((sensed.tool_position[:, :2], torch.full_like(point[:, 2:], height_m)), -1)
    goal = torch.where(held[:, None], raised, hop(point, sensed))
    return move_to(sensed, goal, (held | at_grasp(sensed, point, within_m)).float())


def carry(
    sensed: Sensed,
    point: Float[Tensor, "n 3"],
    goal: Float[Tensor, "n 3"],
    *,
    cruise_m: float,
    width_m: Width = 2 * CUBE_HALF_M,
    grip_up_m: float = 0.0,
    turn: Float[Tensor, "n 3"] | None = None,
) -> Float[Tensor, "n 7"]:
    """Grasp a thing and bring it to ``goal``: straight up, across at ``cruise_m``, down through a funnel.

    ``point`` is where the thing is, ``goal`` where that point is to be; the fingers close on ``width_m`` as much as
    ``grip_up_m`` above it. ``turn`` is this step's rotation vector, by default back to the tool's orientation at home.
    """
    if turn is None:
        turn = turn_to(sensed, pointing_down(torch.zeros_like(point[:, 0])))
    grip = point + constant([0.0, 0.0, grip_up_m], point.device)
    held = holds(sensed, grip, width_m)
    fetch = move_to(sensed, hop(grip, sensed), at_grasp(sensed, grip).float(), turn=turn)
    sideways = (goal - point)[:, :2].norm(dim=-1)
    height = torch.minimum(goal[:, 2] + 5 * (sideways - 0.006).clamp_min(0), goal[:, 2].clamp_min(cruise_m))
    high_enough = point[:, 2] > height - 0.02
    across = torch.where(high_enough[:, None], goal[:, :2], point[:, :2])
    bring = sensed.tool_position + torch.cat((across, height[:, None]), -1) - point
    return torch.where(held[:, None], move_to(sensed, bring, torch.ones_like(height), turn=turn), fetch)


def let_go(sensed: Sensed, width_m: Width = 2 * CUBE_HALF_M) -> Float[Tensor, "n 7"]:
    """Open the fingers and, once they are clear of a thing of ``width_m``, rise."""
    rise = torch.where(sensed.gap > width_m + 0.015, 0.06, 0.0)
    up = torch.cat((torch.zeros_like(sensed.tool_position[:, :2]), rise[:, None]), -1)
    return move_to(sensed, sensed.tool_position + up, torch.zeros_like(sensed.gap))


def nearness(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """1 where two points coincide, falling to 0 over some decimetres: a term of potentials."""
    return 1 - torch.tanh(5 * (a - b).norm(dim=-1))

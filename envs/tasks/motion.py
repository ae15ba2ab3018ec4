"""Moves that scripted experts share. All of them look at the present state alone."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.props.block import CUBE_HALF_M
from envs.rotations import matrix_from_yaw, rotation_vector
from envs.scenes.tabletop import Sensed

HOVER_M = 0.09
GRASP_SLACK_M = 0.004


def move_to(
    sensed: Sensed,
    goal: Float[Tensor, "n 3"],
    gripper: Float[Tensor, " n"],
    speed_m: float = 0.03,
    turn: Float[Tensor, "n 3"] | None = None,
) -> Float[Tensor, "n 7"]:
    """Go straight for ``goal`` (m) at up to ``speed_m`` per step, slowing down near it.

    ``turn`` is the rotation vector (rad, world) of this step, none by default; ``gripper`` 0 open … 1 closed.
    """
    error = 0.5 * (goal - sensed.tool_position)
    distance = error.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    delta = error * (speed_m / distance).clamp(max=1.0)
    turn = torch.zeros_like(delta) if turn is None else turn
    return torch.cat((delta, turn, gripper[:, None]), -1)


def turn_to(sensed: Sensed, rotation: Float[Tensor, "n 3 3"], speed_rad: float = 0.15) -> Float[Tensor, "n 3"]:
    """This step's rotation vector towards the tool orientation ``rotation``, slowing down near it."""
    error = 0.5 * rotation_vector(rotation @ sensed.tool_rotation.mT)
    angle = error.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    return error * (speed_rad / angle).clamp(max=1.0)


def pointing_down(yaw_rad: Float[Tensor, " n"]) -> Float[Tensor, "n 3 3"]:
    """The tool's orientation at home (straight down, fingers opening along y) turned by ``yaw_rad`` about +z."""
    home = torch.diag(torch.tensor([1.0, -1.0, -1.0], device=yaw_rad.device))
    return matrix_from_yaw(yaw_rad) @ home


def above(point: Float[Tensor, "n 3"], sensed: Sensed, clearance_m: float = HOVER_M) -> Float[Tensor, "n 3"]:
    """A funnel over ``point``: stay ``clearance_m`` high while far to the side, come down as the tool lines up."""
    sideways = (point[:, :2] - sensed.tool_position[:, :2]).norm(dim=-1)
    height = (5 * (sideways - 0.006)).clamp(0.0, clearance_m)
    return torch.cat((point[:, :2], point[:, 2:] + height[:, None]), -1)


def at_grasp(sensed: Sensed, point: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
    """Is the tool around ``point``, ready to close?"""
    error = (sensed.tool_position - point).abs()
    return (error[:, :2].amax(-1) < 0.015) & (error[:, 2] < 0.015)


def holds(sensed: Sensed, point: Float[Tensor, "n 3"], width_m: float = 2 * CUBE_HALF_M) -> Bool[Tensor, " n"]:
    """Are the fingers closed on a thing of ``width_m`` at ``point``?"""
    near = (sensed.tool_position - point).norm(dim=-1) < 0.03
    return near & (sensed.gap < width_m + GRASP_SLACK_M)


def lift(
    sensed: Sensed, point: Float[Tensor, "n 3"], height_m: float, width_m: float = 2 * CUBE_HALF_M
) -> Float[Tensor, "n 7"]:
    """Grasp the thing of ``width_m`` at ``point`` and bring the tool ``height_m`` above the table."""
    held = holds(sensed, point, width_m)
    raised = torch.cat((sensed.tool_position[:, :2], torch.full_like(point[:, 2:], height_m)), -1)
    goal = torch.where(held[:, None], raised, above(point, sensed))
    return move_to(sensed, goal, (held | at_grasp(sensed, point)).float())


def nearness(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """1 where two points coincide, falling to 0 over some decimetres: a term of potentials."""
    return 1 - torch.tanh(5 * (a - b).norm(dim=-1))

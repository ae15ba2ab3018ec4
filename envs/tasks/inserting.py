"""Expert moves that put a standing peg into the square hole of a socket."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.constants import constant
from envs.props.socket import HOLE_HALF_M, SOCKET_HEIGHT_M
from envs.rotations import yaw_from_matrix
from envs.scenes.tabletop import Sensed
from envs.tasks.motion import carry, holds, let_go, pointing_down, turn_to
from envs.tasks.uprighting import stand_up

PEG_HALF_M = (0.01, 0.01, 0.045)
DEPTH_M = 0.02
GRIP_UP_M = 0.014
CRUISE_M = 0.17
_THICK_M = 2 * PEG_HALF_M[0]


@dataclass(frozen=True, kw_only=True)
class Insertion:
    """n pegs and the sockets they are meant for, in the world (m): where they are and how they are turned."""

    peg: Float[Tensor, "n 3"]
    peg_rotation: Float[Tensor, "n 3 3"]
    socket: Float[Tensor, "n 3"]
    socket_rotation: Float[Tensor, "n 3 3"]

    @property
    def axis(self) -> Float[Tensor, "n 3"]:
        """The direction, either way, of the peg's longest side."""
        return self.peg_rotation[:, :, 2]

    @property
    def foot(self) -> Float[Tensor, "n 3"]:
        """The middle of the peg's lower end."""
        return self.peg - PEG_HALF_M[2] * torch.where(self.axis[:, 2:] < 0, -self.axis, self.axis)

    @property
    def depth_m(self) -> Float[Tensor, " n"]:
        """How far the peg's lower end is below the rim of the hole; below 0 beside the hole."""
        beside = self.foot - self.socket
        depth = SOCKET_HEIGHT_M - beside[:, 2]
        return torch.where(beside[:, :2].norm(dim=-1) < HOLE_HALF_M, depth, -depth.abs())


def insert(sensed: Sensed, at: Insertion) -> Float[Tensor, "n 7"]:
    """Bring the peg over the hole, turn it like the socket, and lower it when it fits; a fallen one stands up."""
    peg, axis, depth_m = at.peg, at.axis, at.depth_m
    held = holds(sensed, peg + constant([0.0, 0.0, GRIP_UP_M], peg.device), _THICK_M)
    goal, turn = _aim(sensed, at, held)
    bring = carry(sensed, peg, goal, cruise_m=CRUISE_M, width_m=_THICK_M, grip_up_m=GRIP_UP_M, turn=turn)
    # In the hand a tilted peg is turned back on the way; one that leans more has to be set down first.
    upright, points_down = axis[:, 2].abs(), sensed.tool_rotation[:, 2, 2] < -0.9
    fallen = torch.where(held, (upright < 0.6) | ~points_down, upright < 0.95) & (depth_m < 0)
    action = torch.where(fallen[:, None], stand_up(sensed, peg, axis, (PEG_HALF_M[2], PEG_HALF_M[0])), bring)
    # Fingers that have pinched an edge would flick the peg away, those of a leaning tool hold it askew.
    off_m = (sensed.tool_position - peg)[:, :2].norm(dim=-1)
    stands = (upright > 0.95) & (peg[:, 2] < PEG_HALF_M[2] + 0.01)
    pinched = held & ~fallen & stands & (off_m > 0.009)
    action = torch.cat((action[:, :6], action[:, 6:] * (points_down | fallen)[:, None]), -1)
    open_up = pinched | (depth_m > DEPTH_M + 0.01)
    return torch.where(open_up[:, None], let_go(sensed, _THICK_M), action)


def _aim(sensed: Sensed, at: Insertion, held: Bool[Tensor, " n"]) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """Where the peg's centre is to go (over the hole, and down once it fits), and this step's turn of the tool."""
    peg, socket, foot = at.peg, at.socket, at.foot
    up = constant([0.0, 0.0, 1.0], peg.device).expand_as(peg)
    tilt = torch.linalg.cross((peg - foot) / PEG_HALF_M[2], up, dim=-1)
    peg_yaw_rad, socket_yaw_rad = yaw_from_matrix(at.peg_rotation), yaw_from_matrix(at.socket_rotation)
    askew = tilt + _quarter(socket_yaw_rad - peg_yaw_rad)[:, None] * up
    turn = (0.5 * askew).clamp(-0.15, 0.15)
    turn = torch.where(held[:, None], turn, turn_to(sensed, pointing_down(_quarter(peg_yaw_rad))))
    fits = ((foot - socket)[:, :2].norm(dim=-1) < 0.0018) & (askew.norm(dim=-1) < 0.06)
    fits |= at.depth_m > 0.003
    height = PEG_HALF_M[2] + torch.where(fits, 0.0, SOCKET_HEIGHT_M + 0.004)
    # The foot has to meet the hole: a peg that hangs askew is held beside it.
    return torch.cat(((socket + peg - foot)[:, :2], height[:, None]), -1), turn


def _quarter(angle_rad: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The same turn of a square thing, within ±45°."""
    return torch.remainder(angle_rad + math.pi / 4, math.pi / 2) - math.pi / 4

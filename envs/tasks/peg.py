"""Peg: put the named peg into the hole of the named socket.

*Randomisation*: two standing pegs of distinct bright colours, 2 × 2 × 9 cm, and farther from the robot a white and a
black socket, sides drawn, each displaced by ±2 cm and turned by ±0.3 rad. The hole is 2.5 cm wide: a clearance of
2.5 mm on every side. *Success*: the peg's lower end is in the named hole, at least 2 cm below the rim, and the
gripper has let go. *Dense reward*: nearness of the tool to the peg, and of the peg to its place in the hole.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.language import Phrasings
from envs.props.base import Region
from envs.props.block import Block
from envs.props.socket import HOLE_HALF_M, SOCKET_HEIGHT_M, Socket
from envs.random import EpisodeRandom
from envs.rotations import matrix_from_quat, yaw_from_quat
from envs.scenes.layout import Layout, scatter
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.motion import carry, holds, let_go, nearness, pointing_down, turn_to
from envs.tasks.place import OPEN_GAP_M
from envs.tasks.uprighting import stand_up

PEG_HALF_M = (0.01, 0.01, 0.045)
DEPTH_M = 0.02
GRIP_UP_M = 0.014
CRUISE_M = 0.17
STEP_DOWN_M = 0.016
PEGS = Region(name="pegs", cells_m=((0.42, -0.18), (0.42, 0.0), (0.42, 0.18)), jitter_m=0.02, yaw_rad=0.3)
SOCKETS = Region(name="sockets", cells_m=((0.6, -0.15), (0.6, 0.0), (0.6, 0.15)), jitter_m=0.02, yaw_rad=0.3)
_PEGS = tuple(Block(name=f"peg{i}", word="peg", region=PEGS, half_m=PEG_HALF_M, resizable=False) for i in range(2))
_SOCKETS = tuple(Socket(name=f"socket{i}", region=SOCKETS) for i in range(2))


class Peg(Task):
    """Insert the named peg into the named socket and let go."""

    name = "peg"
    max_episode_steps = 160
    props = (*_PEGS, *_SOCKETS)
    chance = 1 / (len(_PEGS) * len(_SOCKETS))
    phrasings = Phrasings(
        train=(
            "put the {peg} into the {socket}",
            "insert the {peg} into the {socket}",
            "plug the {peg} into the {socket}",
            "push the {peg} into the hole of the {socket}",
            "take the {peg} and stick it in the {socket}",
        ),
        held_out=(
            "the {peg} goes into the {socket}",
            "fit the {peg} in the hole of the {socket}",
            "please insert the {peg} in the {socket}",
        ),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        layout = scatter(random, self.props)
        peg = random.integers("peg", 1, len(_PEGS))[:, 0]
        socket = len(_PEGS) + random.integers("socket", 1, len(_SOCKETS))[:, 0]
        return layout.with_roles(peg=peg, socket=socket)

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        return (depth_m(sensed, layout) > DEPTH_M) & (sensed.gap > OPEN_GAP_M)

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        peg, place = layout.of(sensed.position, "peg"), _inserted(sensed, layout)
        return 0.4 * nearness(sensed.tool_position, peg) + 0.6 * nearness(peg, place)

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        """Bring the peg over the hole, turn it like the socket, and lower it when it fits; a fallen one stands up."""
        peg, axis, thick_m = layout.of(sensed.position, "peg"), _axis(sensed, layout), 2 * PEG_HALF_M[0]
        held = holds(sensed, peg + torch.tensor([0.0, 0.0, GRIP_UP_M], device=peg.device), thick_m)
        goal, turn = _aim(sensed, layout, held)
        bring = carry(sensed, peg, goal, cruise_m=CRUISE_M, width_m=thick_m, grip_up_m=GRIP_UP_M, turn=turn)
        # In the hand a tilted peg is turned back on the way; one that leans more has to be set down first.
        upright, points_down = axis[:, 2].abs(), sensed.tool_rotation[:, 2, 2] < -0.9
        fallen = torch.where(held, (upright < 0.6) | ~points_down, upright < 0.95) & (depth_m(sensed, layout) < 0)
        action = torch.where(fallen[:, None], stand_up(sensed, peg, axis, (PEG_HALF_M[2], PEG_HALF_M[0])), bring)
        # Fingers that have pinched an edge would flick the peg away, those of a leaning tool hold it askew.
        off_m = (sensed.tool_position - peg)[:, :2].norm(dim=-1)
        stands = (upright > 0.95) & (peg[:, 2] < PEG_HALF_M[2] + 0.01)
        pinched = held & ~fallen & stands & (off_m > 0.009)
        action[:, 6] *= points_down | fallen
        open_up = pinched | (depth_m(sensed, layout) > DEPTH_M + 0.01)
        return torch.where(open_up[:, None], let_go(sensed, thick_m), action)


def depth_m(sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
    """How far the named peg's lower end is below the rim of the named hole; below 0 beside the hole."""
    socket, foot = layout.of(sensed.position, "socket"), _foot(sensed, layout)
    depth = socket[:, 2] + SOCKET_HEIGHT_M - foot[:, 2]
    return torch.where((foot - socket)[:, :2].norm(dim=-1) < HOLE_HALF_M, depth, -depth.abs())


def _aim(sensed: Sensed, layout: Layout, held: Bool[Tensor, " n"]) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """Where the peg's centre is to go (over the hole, and down once it fits), and this step's turn of the tool."""
    peg, socket, foot = layout.of(sensed.position, "peg"), layout.of(sensed.position, "socket"), _foot(sensed, layout)
    up = torch.tensor([0.0, 0.0, 1.0], device=peg.device).expand_as(peg)
    tilt = torch.linalg.cross((peg - foot) / PEG_HALF_M[2], up, dim=-1)
    peg_yaw_rad, socket_yaw_rad = (yaw_from_quat(layout.of(sensed.quat, role)) for role in ("peg", "socket"))
    askew = tilt + _quarter(socket_yaw_rad - peg_yaw_rad)[:, None] * up
    turn = (0.5 * askew).clamp(-0.15, 0.15)
    turn = torch.where(held[:, None], turn, turn_to(sensed, pointing_down(_quarter(peg_yaw_rad))))
    fits = ((foot - socket)[:, :2].norm(dim=-1) < 0.0018) & (askew.norm(dim=-1) < 0.06)
    fits |= depth_m(sensed, layout) > 0.003
    # Down little by little, so that what the arm drifts sideways is made good on the way.
    lower = (peg[:, 2] - STEP_DOWN_M).clamp_min(PEG_HALF_M[2])
    height = torch.where(fits, lower, PEG_HALF_M[2] + SOCKET_HEIGHT_M + 0.004)
    # The foot has to meet the hole: a peg that hangs askew is held beside it.
    return torch.cat(((socket + peg - foot)[:, :2], height[:, None]), -1), turn


def _foot(sensed: Sensed, layout: Layout) -> Float[Tensor, "n 3"]:
    """The middle of the named peg's lower end."""
    axis = _axis(sensed, layout)
    return layout.of(sensed.position, "peg") - PEG_HALF_M[2] * torch.where(axis[:, 2:] < 0, -axis, axis)


def _inserted(sensed: Sensed, layout: Layout) -> Float[Tensor, "n 3"]:
    """Where the centre of a peg is that stands in the named socket's hole."""
    socket = layout.of(sensed.position, "socket")
    return socket + torch.tensor([0.0, 0.0, PEG_HALF_M[2]], device=socket.device)


def _axis(sensed: Sensed, layout: Layout) -> Float[Tensor, "n 3"]:
    """The direction, either way, of the named peg's longest side."""
    return matrix_from_quat(layout.of(sensed.quat, "peg"))[:, :, 2]


def _quarter(angle_rad: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The same turn of a square thing, within ±45°."""
    return torch.remainder(angle_rad + math.pi / 4, math.pi / 2) - math.pi / 4

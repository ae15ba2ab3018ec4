"""An expert that pushes a flat thing to a place and a turn with one corner of the closed fingers.

Quasi-static pushing: under a force f at the point r of its rim, a thing that slides on a table moves with the twist
(f, r × f / c²) if its limit surface is an ellipsoid, c being the mean lever arm of the friction (Lynch & Mason 1996).
Motions are (x, y, c·yaw), all in metres, in the thing's own frame. From each point of the rim the friction cone allows
a fan of them; the expert pushes where that comes closest to what is left to do.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.constants import constant
from envs.rotations import compose, rotate, yaw_from_matrix
from envs.scenes.tabletop import Sensed
from envs.tasks.motion import hop, move_to, pointing_down, turn_to

LOW_M = 0.02
CLEAR_M = 0.018
PRESS_M = 0.004
STRIDE_M = 0.03
RISE_M = 0.05
FAST_M, GENTLE_M = 0.03, 0.006
"""Metres per step of the tool, at most."""
LEAN = 0.7
"""Tangent of how far a push may lean from the rim's normal."""
TRAVEL, HOP_M = 0.02, 0.2
"""Metres of progress that a metre of the tool's way to another point must bring; what the way up and down counts."""


@dataclass(frozen=True, kw_only=True)
class Rim:
    """Points of a thing's rim where it may be pushed, and the inward normals there; in its frame, metres."""

    point: Float[Tensor, "k 2"]
    inward: Float[Tensor, "k 2"]

    @property
    def along(self) -> Float[Tensor, "k 2"]:
        """The inward normals turned by +90°."""
        return torch.stack((-self.inward[:, 1], self.inward[:, 0]), -1)


@dataclass(frozen=True, kw_only=True)
class Flat:
    """Where n things lie on the table (m), and their rotations in its plane."""

    position: Float[Tensor, "n 2"]
    rotation: Float[Tensor, "n 2 2"]

    @property
    def yaw_rad(self) -> Float[Tensor, " n"]:
        return yaw_from_matrix(self.rotation)

    def inwards(self, points: Float[Tensor, "n k 2"]) -> Float[Tensor, "n k 2"]:
        """Points of the world in the things' frames."""
        return rotate(self.rotation.mT[:, None], points - self.position[:, None])

    def outwards(self, points: Float[Tensor, "n k 2"] | Float[Tensor, "k 2"]) -> Float[Tensor, "n k 2"]:
        """Points of the things' frames in the world."""
        return rotate(self.rotation[:, None], points) + self.position[:, None]

    def seen_from(self, other: "Flat") -> "Flat":
        """Where they lie in the frames of others."""
        return Flat(
            position=rotate(other.rotation.mT, self.position - other.position),
            rotation=compose(other.rotation.mT, self.rotation),
        )


def push_flat(
    sensed: Sensed, thing: Flat, goal: Flat, rim: Rim, lever_m: float, done: Bool[Tensor, " n"]
) -> Float[Tensor, "n 7"]:
    """Bring ``thing`` to ``goal``, which have one ``rim``, and draw back where that is ``done``; ``lever_m`` is c."""
    corner_m, ahead = sensed.gripper.corner_m, goal.seen_from(thing)
    left = torch.cat((ahead.position, lever_m * ahead.yaw_rad[:, None]), -1)
    push = best_pushes(left, rim, lever_m)
    gain = left.norm(dim=-1, keepdim=True) - (left[:, None] - push).norm(dim=-1)

    tool = thing.inwards(sensed.tool_position[:, None, :2])
    behind, aside = -((tool - rim.point) * rim.inward).sum(-1), ((tool - rim.point) * rim.along).sum(-1)
    low = sensed.tool_position[:, 2:] < LOW_M + 0.02
    near = behind < corner_m + 0.006
    ready = low & (behind > corner_m - 0.01) & (behind < corner_m + CLEAR_M + 0.012) & (aside.abs() < 0.012)
    station = thing.outwards(rim.point - (corner_m + CLEAR_M) * rim.inward)
    way = HOP_M + (station - sensed.tool_position[:, None, :2]).norm(dim=-1)
    score = gain - TRAVEL * torch.where(ready, 0.0, way) - _out_of_reach(station).float()
    chosen = score.argmax(-1)

    # Behind the chosen point: up to the rim, then on as the thing should move.
    move = push * (STRIDE_M / push.norm(dim=-1, keepdim=True).clamp_min(1e-9)).clamp(max=1) * near[..., None]
    finger = rim.point - (corner_m - PRESS_M) * rim.inward
    turned = finger + move[..., 2:] / lever_m * torch.stack((-finger[:, 1], finger[:, 0]), -1)
    onwards = _chosen(thing.outwards(turned + move[..., :2]), chosen)
    # Elsewhere: off the rim if the fingers touch it, then over to behind the point.
    beside = (tool - rim.point + corner_m * rim.inward).norm(dim=-1).argmin(-1)
    pushing = (_chosen(ready, chosen) & ~done)[:, None]
    leaving = low & _chosen(near, beside)[:, None] & ~pushing
    off = _chosen(thing.outwards(tool - CLEAR_M * rim.inward), beside)
    over = hop(_at(LOW_M, _chosen(station, chosen)), sensed)
    over = torch.where(done[:, None], sensed.tool_position + constant([0.0, 0.0, RISE_M], over.device), over)
    over = torch.where(leaving, torch.cat((off, over[:, 2:]), -1), over)

    facing = thing.yaw_rad + torch.atan2(rim.inward[chosen, 1], rim.inward[chosen, 0])
    turn = turn_to(sensed, pointing_down(_corner_towards(facing, sensed))) * ~leaving
    # An arm that starts with a jerk would kick what its fingers lean on.
    speed_m = torch.where(leaving, GENTLE_M, FAST_M)
    goal_m = torch.where(pushing, _at(LOW_M, onwards), over)
    return move_to(sensed, goal_m, torch.ones_like(facing), speed_m, turn)


def best_pushes(left: Float[Tensor, "n 3"], rim: Rim, lever_m: float) -> Float[Tensor, "n k 3"]:
    """From each point of the rim the motion within the friction cone that brings nearest to the motion ``left``."""
    axes = torch.stack((rim.inward, rim.along), -2)
    torque = rim.point[:, None, 0] * axes[..., 1] - rim.point[:, None, 1] * axes[..., 0]
    twist = torch.cat((axes, torque[..., None] / lever_m), -1)  # (k, 2, 3): of a unit force along each axis
    force = rotate(torch.linalg.inv(compose(twist, twist.mT)), rotate(twist, left[:, None]))
    inward, along = force.unbind(-1)
    lean = torch.where(inward > 0, (along / inward.clamp_min(1e-9)).clamp(-LEAN, LEAN), LEAN * along.sign())
    motion = twist[:, 0] + lean[..., None] * twist[:, 1]
    motion = motion / motion.norm(dim=-1, keepdim=True)
    return motion * (motion * left[:, None]).sum(-1, keepdim=True).clamp_min(0)


def _corner_towards(facing_rad: Float[Tensor, " n"], sensed: Sensed) -> Float[Tensor, " n"]:
    """The tool yaw that points a corner of the fingers along ``facing_rad``: near the present one, and to home's."""
    corner_rad = sensed.gripper.corner_rad
    angles = (corner_rad, -corner_rad, corner_rad - torch.pi, torch.pi - corner_rad)
    corners = constant(angles, facing_rad.device)
    yaws = torch.remainder(facing_rad[:, None] - corners + torch.pi, 2 * torch.pi) - torch.pi
    now = yaw_from_matrix(sensed.tool_rotation)
    return _chosen(yaws, ((yaws - now[:, None]).abs() + 0.5 * yaws.abs()).argmin(-1))


def _out_of_reach(station: Float[Tensor, "n k 2"]) -> Bool[Tensor, "n k"]:
    x, y = station.unbind(-1)
    return (x < 0.28) | (x > 0.72) | (y.abs() > 0.34)


def _chosen(values: Tensor, index: Tensor) -> Tensor:
    return values[torch.arange(len(index), device=index.device), index]


def _at(height_m: float, point: Float[Tensor, "n 2"]) -> Float[Tensor, "n 3"]:
    return torch.cat((point, torch.full_like(point[:, :1], height_m)), -1)

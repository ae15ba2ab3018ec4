"""From where a tool is to a keyframe: straight, or up, across and down, then the gripper."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from vla.observation import Keyframe


@dataclass(frozen=True, kw_only=True)
class StraightMotion:
    """How a plan of changes of the tool's pose is made, a control step each.

    The tool goes at most ``speed_m`` and turns at most ``turn_rad`` per step, both evenly over the way. Where a
    keyframe asks for clearance it first rises to ``hover_m`` above it, if it is lower, and comes down on it at last. A
    plan ends with ``settle_steps`` of standing still, in which an arm that lags behind its command catches up, and,
    where the gripper's command changes at the keyframe, ``grip_steps`` more.
    """

    speed_m: float = 0.03
    turn_rad: float = 0.15
    hover_m: float = 0.09
    settle_steps: int = 4
    grip_steps: int = 6

    def plan(
        self,
        position_m: Float[Tensor, "n 3"],
        rotation: Float[Tensor, "n 3 3"],
        keyframe: Keyframe,
        steps: int,
    ) -> tuple[Float[Tensor, "n h 7"], Int[Tensor, " n"]]:
        """``steps`` actions (dx, dy, dz, rx, ry, rz, gripper), and how many of them count.

        A way that is too long for so many is cut off, to stand still there. Steps after the last that counts stand
        still as well. ``ValueError`` where there is not time for one step and standing still.
        """
        if steps <= self.settle_steps:
            raise ValueError(f"a plan needs more than {self.settle_steps} steps, got {steps}")
        corners = self._corners(position_m, keyframe)
        lengths_m = corners.diff(dim=1).norm(dim=-1)
        turn = rotation_vector(keyframe.rotation @ rotation.mT)
        needed = torch.maximum(lengths_m.sum(dim=1) / self.speed_m, turn.norm(dim=-1) / self.turn_rad)
        needed = (needed - 1e-4).ceil().clamp(min=1)
        most = steps - self.settle_steps
        moves = needed.clamp(max=most)
        at = torch.arange(steps + 1, device=position_m.device)
        share = torch.minimum(at, moves[:, None]) / needed[:, None]
        translation_m = _along(corners, lengths_m, share).diff(dim=1)
        turns = share.diff(dim=1)[..., None] * turn[:, None]
        before, after = (bit >= 0.5 for bit in (keyframe.gripper, keyframe.gripper_after))
        arrived = needed <= most
        gripping = arrived[:, None] & (at[:-1] >= (moves + self.settle_steps)[:, None])
        command = torch.where(gripping, after[:, None], before[:, None]).float()
        length = moves + self.settle_steps + self.grip_steps * (arrived & (before != after))
        actions = torch.cat([translation_m, turns, command[..., None]], dim=-1)
        return actions, length.clamp(max=steps).long()

    def _corners(self, position_m: Float[Tensor, "n 3"], keyframe: Keyframe) -> Float[Tensor, "n 4 3"]:
        """Start, above the start, above the keyframe, keyframe; twice the ends where the way is straight."""
        goal_m = keyframe.position_m
        cruise_m = torch.maximum(position_m[:, 2], goal_m[:, 2] + self.hover_m)[:, None]
        over = (keyframe.clearance >= 0.5)[:, None]
        rise = torch.where(over, torch.cat([position_m[:, :2], cruise_m], dim=-1), position_m)
        arrive = torch.where(over, torch.cat([goal_m[:, :2], cruise_m], dim=-1), goal_m)
        return torch.stack([position_m, rise, arrive, goal_m], dim=1)


def _along(
    corners: Float[Tensor, "n k 3"], lengths_m: Float[Tensor, "n m"], share: Float[Tensor, "n s"]
) -> Float[Tensor, "n s 3"]:
    """Where one is after these shares of a way with corners."""
    begins_m = pad(lengths_m.cumsum(dim=1), (1, 0))
    gone_m = share * begins_m[:, -1:]
    done = (gone_m[..., None] - begins_m[:, None, :-1]) / lengths_m[:, None].clamp(min=1e-9)
    return corners[:, :1] + done.clamp(0, 1) @ corners.diff(dim=1)


def rotation_vector(matrix: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 3"]:
    """Axis times angle (rad, 0 … π); at a half turn the axis' sign is arbitrary.

    By way of the quaternion, whose largest component is divided by and none that may be 0 (Shepperd 1978).
    """
    m = matrix.double()
    x, y, z = m.diagonal(dim1=-2, dim2=-1).unbind(-1)
    squares = torch.stack([1 + x + y + z, 1 + x - y - z, 1 - x + y - z, 1 - x - y + z], dim=-1).clamp(min=0)
    a, b, c = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    d, e, f = m[:, 1, 0] + m[:, 0, 1], m[:, 0, 2] + m[:, 2, 0], m[:, 2, 1] + m[:, 1, 2]
    products = squares.diag_embed()
    for i, j, value in ((0, 1, a), (0, 2, b), (0, 3, c), (1, 2, d), (1, 3, e), (2, 3, f)):
        products[:, i, j] = products[:, j, i] = value
    best = squares.argmax(dim=-1)
    quat = torch.nn.functional.normalize(products[torch.arange(len(m), device=m.device), best], dim=-1)
    quat = quat * torch.where(quat[:, :1] < 0, -1.0, 1.0)
    sine = quat[:, 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quat[:, :1])
    return (quat[:, 1:] * (angle / sine.clamp(min=1e-12))).clamp(-math.pi, math.pi).float()

"""A hinged door before a low cabinet."""

from dataclasses import dataclass
from math import degrees
from typing import ClassVar

import mujoco
import torch
from jaxtyping import Float
from torch import Tensor

from envs.constants import constant
from envs.props.base import Prop
from envs.rotations import matrix_from_quat, rotate

SWING_RAD = 1.75
HANDLE_RADIUS_M = 0.01
HINGE_M = (-0.06, 0.075)
"""Where the hinge stands (x, y) in the body's frame."""
_WIDTH_M = 0.144
HANDLE_AT_M = 0.125
_HANDLE_HEIGHT_M = 0.105
_PANEL_TOP_M = 0.075
_HANDLE_TOP_M = 0.128
_WOOD = [0.62, 0.52, 0.40, 1]


@dataclass(frozen=True, kw_only=True)
class HingedDoor(Prop):
    """A cabinet 15 cm wide whose door, hinged on the robot's left, swings out towards the body's −x.

    ``opening`` (rad) is the door's angle; it stays where it is left. The handle is a round post that rises above
    door and cabinet near the free edge, so that the hand touches nothing else on its way round.
    """

    motion: ClassVar = "jointed"
    noun: ClassVar = "door"

    @property
    def painted(self) -> tuple[str, ...]:
        return (f"{self.name}/panel", f"{self.name}/handle")

    def add_to(self, spec: mujoco.MjSpec) -> None:
        box = mujoco.mjtGeom.mjGEOM_BOX
        cabinet = spec.worldbody.add_body(name=self.name)
        for position, size in _CABINET:
            cabinet.add_geom(type=box, pos=position, size=size, rgba=_WOOD)
        door = cabinet.add_body(name=f"{self.name}/door", pos=(*HINGE_M, 0))
        door.add_joint(
            name=self.name,
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=(0, 0, -1),
            range=(0, degrees(SWING_RAD)),
            limited=True,
            damping=0.05,
            frictionloss=0.05,
        )
        low, half = 0.004, (_PANEL_TOP_M - 0.004) / 2
        door.add_geom(
            name=f"{self.name}/panel",
            type=box,
            pos=(0, -_WIDTH_M / 2, low + half),
            size=(0.005, _WIDTH_M / 2, half),
            mass=0.2,
        )
        half = (_HANDLE_TOP_M - low) / 2
        door.add_geom(
            name=f"{self.name}/handle",
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            pos=(0, -HANDLE_AT_M, low + half),
            size=(HANDLE_RADIUS_M, half - HANDLE_RADIUS_M, 0),
            mass=0.03,
            friction=[1.5, 0.02, 0.0001],
        )
        spec.add_exclude(bodyname1=self.name, bodyname2=door.name)


def handle_position(
    position: Float[Tensor, "n 3"], quat: Float[Tensor, "n 4"], opening: Float[Tensor, " n"]
) -> Float[Tensor, "n 3"]:
    """Where to take hold of the handle (m, world) of a door at ``position`` that is open by ``opening`` (rad)."""
    hinge = constant([*HINGE_M, _HANDLE_HEIGHT_M], opening.device)
    arm = torch.stack((-opening.sin(), -opening.cos(), torch.zeros_like(opening)), -1)
    return position + rotate(matrix_from_quat(quat), hinge + HANDLE_AT_M * arm)


_CABINET = (
    ((0.052, 0, 0.0375), (0.003, 0.075, 0.0375)),
    ((0.003, 0.072, 0.0375), (0.052, 0.003, 0.0375)),
    ((0.003, -0.072, 0.0375), (0.052, 0.003, 0.0375)),
    ((0.003, 0, 0.0725), (0.052, 0.075, 0.0025)),
)
"""Centres and half extents (m) of back, sides and top."""

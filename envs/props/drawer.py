"""A drawer in a low cabinet, to be pulled out by its knob."""

from dataclasses import dataclass
from typing import ClassVar

import mujoco
from jaxtyping import Float
from torch import Tensor

from envs.constants import constant
from envs.props.base import Prop
from envs.props.bin import BIN_HALF_M, tray_panels
from envs.rotations import matrix_from_quat

TRAVEL_M = 0.13
KNOB_RADIUS_M = 0.01
_RAISED_M = 0.006
_KNOB_AHEAD_M = 0.045
_KNOB_HEIGHT_M = 0.036
_WOOD = [0.62, 0.52, 0.40, 1]


@dataclass(frozen=True, kw_only=True)
class DrawerUnit(Prop):
    """A tray like a bin that slides out of a cabinet, towards the body's −x; it stays where it is left.

    The cabinet is 15 cm wide, 14 cm deep and 7.5 cm high and stands around the body's origin; ``opening`` (m) is how
    far the tray is out. The knob, a round post before the tray's middle, is narrow enough for any gripper.
    """

    motion: ClassVar = "jointed"
    noun: ClassVar = "drawer"

    @property
    def painted(self) -> tuple[str, ...]:
        return tuple(f"{self.name}/{part}" for part in (*tray_panels(), "knob"))

    def add_to(self, spec: mujoco.MjSpec) -> None:
        box = mujoco.mjtGeom.mjGEOM_BOX
        cabinet = spec.worldbody.add_body(name=self.name)
        for position, size in _CABINET:
            cabinet.add_geom(type=box, pos=position, size=size, rgba=_WOOD)
        tray = cabinet.add_body(name=f"{self.name}/tray", pos=(0, 0, _RAISED_M))
        tray.add_joint(
            name=self.name,
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=(-1, 0, 0),
            range=(0, TRAVEL_M),
            limited=True,
            damping=3.0,
            frictionloss=1.0,
        )
        for panel, (position, size) in tray_panels().items():
            tray.add_geom(name=f"{self.name}/{panel}", type=box, pos=position, size=size, mass=0.04)
        ahead = BIN_HALF_M + _KNOB_AHEAD_M
        tray.add_geom(
            type=box, pos=(-BIN_HALF_M - _KNOB_AHEAD_M / 2, 0, 0.006), size=(_KNOB_AHEAD_M / 2, 0.006, 0.006), mass=0.01
        )
        tray.add_geom(
            name=f"{self.name}/knob",
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            pos=(-ahead, 0, 0.028),
            size=(KNOB_RADIUS_M, 0.018, 0),
            mass=0.02,
            friction=[1.5, 0.02, 0.0001],
        )
        spec.add_exclude(bodyname1=self.name, bodyname2=tray.name)


def tray_position(
    position: Float[Tensor, "n 3"], quat: Float[Tensor, "n 4"], opening: Float[Tensor, " n"]
) -> Float[Tensor, "n 3"]:
    """The middle of the tray's floor (m, world) for a unit at ``position``."""
    return position + _forward(quat, opening, _RAISED_M)


def knob_position(
    position: Float[Tensor, "n 3"], quat: Float[Tensor, "n 4"], opening: Float[Tensor, " n"]
) -> Float[Tensor, "n 3"]:
    """Where to take hold of the knob (m, world)."""
    return position + _forward(quat, opening + BIN_HALF_M + _KNOB_AHEAD_M, _KNOB_HEIGHT_M)


def _forward(quat: Float[Tensor, "n 4"], distance: Float[Tensor, " n"], height_m: float) -> Float[Tensor, "n 3"]:
    up = constant([0.0, 0.0, height_m], quat.device)
    return up - distance[:, None] * matrix_from_quat(quat)[..., 0]


_CABINET = (
    ((0.072, 0, 0.035), (0.003, 0.075, 0.035)),
    ((0.004, 0.072, 0.035), (0.071, 0.003, 0.035)),
    ((0.004, -0.072, 0.035), (0.071, 0.003, 0.035)),
    ((0.004, 0, 0.0725), (0.071, 0.075, 0.0025)),
)
"""Centres and half extents (m) of back, sides and top."""

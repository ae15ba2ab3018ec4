"""A push button."""

from dataclasses import dataclass
from typing import ClassVar

import mujoco

from envs.props.base import Prop

PRESS_RANGE_M = 0.015
CAP_HEIGHT_M = 0.045
"""Height of the cap's top when nobody presses it."""
_BASE_HALF_M = (0.03, 0.03, 0.0125)
_CAP_HALF_M = 0.02


@dataclass(frozen=True, kw_only=True)
class PushButton(Prop):
    """A coloured square cap on a dark base; ``opening`` (m) is how far it is pressed, and a spring brings it back."""

    motion: ClassVar = "jointed"
    noun: ClassVar = "button"

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """The spring is under some tension at rest, and weight is balanced, so that the cap does not sag."""
        base = spec.worldbody.add_body(name=self.name)
        base.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, pos=(0, 0, _BASE_HALF_M[2]), size=_BASE_HALF_M, rgba=[0.2, 0.2, 0.22, 1]
        )
        half = (CAP_HEIGHT_M - 0.01) / 2
        cap = base.add_body(name=f"{self.name}/cap", pos=(0, 0, CAP_HEIGHT_M - half), gravcomp=1)
        cap.add_joint(
            name=self.name,
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=(0, 0, -1),
            range=(0, PRESS_RANGE_M),
            limited=True,
            stiffness=120.0,
            springref=-0.004,
            damping=3.0,
        )
        cap.add_geom(name=self.name, type=mujoco.mjtGeom.mjGEOM_BOX, size=(_CAP_HALF_M, _CAP_HALF_M, half), mass=0.05)
        spec.add_exclude(bodyname1=self.name, bodyname2=cap.name)

"""A coloured zone of the table to bring things to."""

from dataclasses import dataclass
from typing import ClassVar

import mujoco

from envs.props.base import Prop
from envs.props.colours import PLAIN

MAT_HALF_M = 0.06
_THICKNESS_M = 0.001


@dataclass(frozen=True, kw_only=True)
class Mat(Prop):
    """A square, 12 cm wide and 1 mm thick, that nothing collides with; its origin is the middle of its underside."""

    palette: tuple[str, ...] = PLAIN
    motion: ClassVar = "fixed"
    noun: ClassVar = "mat"

    def add_to(self, spec: mujoco.MjSpec) -> None:
        spec.worldbody.add_body(name=self.name).add_geom(
            name=self.name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=(0, 0, _THICKNESS_M / 2),
            size=(MAT_HALF_M, MAT_HALF_M, _THICKNESS_M / 2),
            contype=0,
            conaffinity=0,
        )

"""A box that hides a thing."""

from dataclasses import dataclass
from typing import ClassVar

import mujoco

from envs.props.base import Prop

COVER_HALF_M = 0.036
COVER_HEIGHT_M = 0.072


@dataclass(frozen=True, kw_only=True)
class Cover(Prop):
    """An opaque box that can be put over the things called ``hides``, which it never touches; others it does.

    Its origin is the middle of its underside.
    """

    hides: tuple[str, ...]
    palette: tuple[str, ...] = ("brown",)
    motion: ClassVar = "fixed"
    noun: ClassVar = "box"
    resizable: bool = False

    def add_to(self, spec: mujoco.MjSpec) -> None:
        spec.worldbody.add_body(name=self.name).add_geom(
            name=self.name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=(0, 0, COVER_HEIGHT_M / 2),
            size=(COVER_HALF_M, COVER_HALF_M, COVER_HEIGHT_M / 2),
        )
        for hidden in self.hides:
            spec.add_exclude(bodyname1=self.name, bodyname2=hidden)

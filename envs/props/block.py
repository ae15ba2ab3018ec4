"""Blocks: boxes, balls and cylinders to be handled."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import mujoco

from envs.props.base import Prop

CUBE_HALF_M = 0.02
_GEOMS = {
    "cube": mujoco.mjtGeom.mjGEOM_BOX,
    "ball": mujoco.mjtGeom.mjGEOM_SPHERE,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
}

Shape = Literal["cube", "ball", "cylinder"]


@dataclass(frozen=True, kw_only=True)
class Block(Prop):
    """A solid of one colour. ``half_m`` are half its extents along x, y, z at rest; a ball's are equal."""

    shape: Shape = "cube"
    half_m: tuple[float, float, float] = (CUBE_HALF_M, CUBE_HALF_M, CUBE_HALF_M)
    mass_kg: float = 0.05
    motion: ClassVar = "free"

    @property
    def noun(self) -> str:
        return self.shape

    @property
    def rest_height_m(self) -> float:
        return self.half_m[2]

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """A body with one geom; a ball rolls with some resistance, so that it stays where it is put."""
        body = spec.worldbody.add_body(name=self.name)
        body.add_freejoint(name=self.name)
        x, _, z = self.half_m
        size = {"cube": self.half_m, "ball": (x, 0, 0), "cylinder": (x, z, 0)}[self.shape]
        rolls = self.shape != "cube"
        body.add_geom(
            name=self.name,
            type=_GEOMS[self.shape],
            size=size,
            mass=self.mass_kg,
            condim=6 if rolls else 4,
            friction=[1.0, 0.02, 0.002 if rolls else 0.0001],
        )

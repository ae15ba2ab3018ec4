"""Blocks: boxes, balls and cylinders to be handled."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import mujoco
import torch
from jaxtyping import Float
from torch import Tensor

from envs.constants import constant
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
    """A solid of one colour. ``half_m`` are half its extents along x, y, z at rest; a ball's are equal.

    ``word`` is the noun that instructions use where the shape will not do.
    """

    shape: Shape = "cube"
    half_m: tuple[float, float, float] = (CUBE_HALF_M, CUBE_HALF_M, CUBE_HALF_M)
    mass_kg: float = 0.05
    word: str | None = None
    motion: ClassVar = "free"

    @property
    def noun(self) -> str:
        return self.word or self.shape

    @property
    def rest_height_m(self) -> float:
        return self.half_m[2]

    def extent_m(self, rotation: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 3"]:
        """How far it reaches from its middle along each axis when it is turned by ``rotation``."""
        across, _, along = self.half_m
        if self.shape == "ball":
            return torch.full_like(rotation[..., 0], across)
        if self.shape == "cube":
            return (rotation.abs() * constant(self.half_m, rotation.device)).sum(-1)
        axis = rotation[..., 2]
        return across * (1 - axis.square()).clamp_min(0).sqrt() + along * axis.abs()

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """A body with one geom."""
        body = spec.worldbody.add_body(name=self.name)
        body.add_freejoint(name=self.name)
        x, _, z = self.half_m
        size = {"cube": self.half_m, "ball": (x, 0, 0), "cylinder": (x, z, 0)}[self.shape]
        body.add_geom(
            name=self.name,
            type=_GEOMS[self.shape],
            size=size,
            mass=self.mass_kg,
            condim=4,
            friction=[1.0, 0.02, 0.0001],
        )
        if self.shape != "cube":
            _make_firm(body.geoms[0])


def _make_firm(geom: mujoco.MjsGeom) -> None:
    """Contacts of its own kind for a round thing: it resists rolling, and it is firm.

    Round things touch in few points; with the usual softness the fingers would sink into it and squeeze it out.
    """
    geom.priority, geom.condim = 1, 6
    geom.friction = [1.5, 0.02, 0.002]
    geom.solref, geom.solimp = [0.01, 1.0], [0.99, 0.998, 0.001, 0.5, 2.0]

"""A thing in the shape of the letter T, and the mark on the table where it belongs."""

from dataclasses import dataclass
from typing import ClassVar

import mujoco

from envs.props.base import Prop

UNIT_M = 0.04
"""The T's bar is 4 × 1 units, its stem 1 × 3."""
TEE_HALF_HEIGHT_M = 0.02
_MARK_HALF_M = 0.0005
CENTRE_UNITS = 18.5 / 7
"""From the stem's foot to the centre of mass."""
TEE_BOXES_M: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "bar": ((0.0, (3.5 - CENTRE_UNITS) * UNIT_M), (2 * UNIT_M, UNIT_M / 2)),
    "stem": ((0.0, (1.5 - CENTRE_UNITS) * UNIT_M), (UNIT_M / 2, 1.5 * UNIT_M)),
}
"""Centre and half extents of the two rectangles in the plane: the bar along x, the stem down from it towards −y, the
centre of mass at the origin."""


@dataclass(frozen=True, kw_only=True)
class Tee(Prop):
    """A flat T of two boxes that slides over the table; its origin is its centre of mass."""

    palette: tuple[str, ...] = ("blue",)
    mass_kg: float = 0.15
    motion: ClassVar = "free"
    noun: ClassVar = "T"
    resizable: bool = False

    @property
    def rest_height_m(self) -> float:
        return TEE_HALF_HEIGHT_M

    @property
    def painted(self) -> tuple[str, ...]:
        return tuple(f"{self.name}/{part}" for part in TEE_BOXES_M)

    def add_to(self, spec: mujoco.MjSpec) -> None:
        body = spec.worldbody.add_body(name=self.name)
        body.add_freejoint(name=self.name)
        area = sum(x * y for _, (x, y) in TEE_BOXES_M.values())
        for part, ((x, y), half) in TEE_BOXES_M.items():
            body.add_geom(
                name=f"{self.name}/{part}",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=(x, y, 0),
                size=(*half, TEE_HALF_HEIGHT_M),
                mass=self.mass_kg * half[0] * half[1] / area,
                friction=[1.0, 0.005, 0.0001],
            )


@dataclass(frozen=True, kw_only=True)
class TeeMark(Prop):
    """The shape of a :class:`Tee` painted on the table; nothing collides with it."""

    palette: tuple[str, ...] = ("green",)
    motion: ClassVar = "fixed"
    noun: ClassVar = "mark"
    resizable: bool = False

    @property
    def painted(self) -> tuple[str, ...]:
        return tuple(f"{self.name}/{part}" for part in TEE_BOXES_M)

    def add_to(self, spec: mujoco.MjSpec) -> None:
        body = spec.worldbody.add_body(name=self.name)
        for part, ((x, y), half) in TEE_BOXES_M.items():
            body.add_geom(
                name=f"{self.name}/{part}",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=(x, y, _MARK_HALF_M),
                size=(*half, _MARK_HALF_M),
                contype=0,
                conaffinity=0,
            )

"""An open box to put things into."""

from dataclasses import dataclass
from typing import ClassVar

import mujoco

from envs.props.base import Prop
from envs.props.colours import PLAIN

BIN_HALF_M = 0.065
BIN_WALL_M = 0.03
_THICKNESS_M = 0.004


@dataclass(frozen=True, kw_only=True)
class Bin(Prop):
    """A square tray, 13 cm wide and 3 cm high, of thin static boxes; its origin is the middle of its floor."""

    palette: tuple[str, ...] = PLAIN
    motion: ClassVar = "fixed"
    noun: ClassVar = "bin"

    @property
    def painted(self) -> tuple[str, ...]:
        return tuple(f"{self.name}/{panel}" for panel in tray_panels())

    def add_to(self, spec: mujoco.MjSpec) -> None:
        body = spec.worldbody.add_body(name=self.name)
        for panel, (position, size) in tray_panels().items():
            body.add_geom(name=f"{self.name}/{panel}", type=mujoco.mjtGeom.mjGEOM_BOX, pos=position, size=size)


def tray_panels() -> dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]]:
    """Centre and half extents of the floor and the walls."""
    half, wall, thin = BIN_HALF_M, BIN_WALL_M, _THICKNESS_M
    return {
        "floor": ((0, 0, thin / 2), (half, half, thin / 2)),
        "far": ((half, 0, wall / 2), (thin, half, wall / 2)),
        "near": ((-half, 0, wall / 2), (thin, half, wall / 2)),
        "left": ((0, half, wall / 2), (half, thin, wall / 2)),
        "right": ((0, -half, wall / 2), (half, thin, wall / 2)),
    }

"""A block with a square hole to put a peg into."""

from dataclasses import dataclass
from typing import ClassVar

import mujoco

from envs.props.base import Prop
from envs.props.colours import PLAIN

SOCKET_HALF_M = 0.04
SOCKET_HEIGHT_M = 0.04
HOLE_HALF_M = 0.0125


@dataclass(frozen=True, kw_only=True)
class Socket(Prop):
    """Four static walls around a square hole, 2.5 cm wide and 4 cm deep; the origin is the middle of its floor."""

    palette: tuple[str, ...] = PLAIN
    motion: ClassVar = "fixed"
    noun: ClassVar = "socket"
    resizable: bool = False

    @property
    def painted(self) -> tuple[str, ...]:
        return tuple(f"{self.name}/{wall}" for wall in _walls())

    def add_to(self, spec: mujoco.MjSpec) -> None:
        body = spec.worldbody.add_body(name=self.name)
        for wall, (position, size) in _walls().items():
            body.add_geom(name=f"{self.name}/{wall}", type=mujoco.mjtGeom.mjGEOM_BOX, pos=position, size=size)


def _walls() -> dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]]:
    """Centre and half extents of the walls."""
    up = SOCKET_HEIGHT_M / 2
    middle, thin = (SOCKET_HALF_M + HOLE_HALF_M) / 2, (SOCKET_HALF_M - HOLE_HALF_M) / 2
    return {
        "far": ((middle, 0, up), (thin, SOCKET_HALF_M, up)),
        "near": ((-middle, 0, up), (thin, SOCKET_HALF_M, up)),
        "left": ((0, middle, up), (HOLE_HALF_M, thin, up)),
        "right": ((0, -middle, up), (HOLE_HALF_M, thin, up)),
    }

"""An open box to put things into."""

from dataclasses import dataclass
from typing import ClassVar

import mujoco
from jaxtyping import Bool, Float
from torch import Tensor

from envs.props.base import Prop
from envs.props.colours import PLAIN

BIN_HALF_M = 0.065
BIN_WALL_M = 0.03
_THICKNESS_M = 0.004
_LEVELS_M = 0.055
"""What lies in a tray may lie on another thing there: its underside is less than this above the floor."""
_SLACK_M = 0.002


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


def lies_in_tray(
    offset_m: Float[Tensor, "... 3"], extent_m: Float[Tensor, "... 3"], scale: Float[Tensor, "..."] | float = 1.0
) -> Bool[Tensor, "..."]:
    """Is a thing, ``offset_m`` from the tray's origin and reaching ``extent_m`` to every side, within its walls?

    All of its outline is over the floor, so that nothing of it is over a wall's top, and it is as low as on the floor
    or on another thing that lies there. Along the tray's axes; ``scale`` is the tray's size.
    """
    room_m = (BIN_HALF_M - _THICKNESS_M) * scale + _SLACK_M
    within = (offset_m.abs() + extent_m)[..., :2].amax(-1) < room_m
    return within & ((offset_m - extent_m)[..., 2] < _LEVELS_M)


def outside_tray_m(offset_m: Float[Tensor, "... 3"], scale: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """How far beside the tray's walls, over the table, the middle of a thing is; 0 within them."""
    room_m = (BIN_HALF_M - _THICKNESS_M) * scale
    return (offset_m[..., :2].abs() - room_m[..., None]).clamp_min(0).norm(dim=-1)


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

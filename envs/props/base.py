"""What a scene needs to know of a thing on the table."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import mujoco

from envs.props.colours import BRIGHT


@dataclass(frozen=True, kw_only=True)
class Region:
    """Where things start: each in a cell of its own, displaced by up to ``jitter_m`` per axis.

    ``cells_m`` are (x, y) on the table; things are turned by up to ±``yaw_rad`` about the vertical.
    """

    name: str
    cells_m: tuple[tuple[float, float], ...]
    jitter_m: float = 0.0
    yaw_rad: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Prop(ABC):
    """A thing that a task puts on the table: one MuJoCo body called ``name``.

    Things of one ``region`` stand in different cells, things of one ``palette`` have different colours. ``motion``:
    a *free* body has a free joint called ``name``; a *jointed* one stands still but for a part on a hinge or slide
    called ``name``; a *fixed* one only stands. A thing is not ``resizable`` if a task counts on its size.
    """

    name: str
    region: Region
    palette: tuple[str, ...] = BRIGHT
    resizable: bool = True
    motion: ClassVar[Literal["free", "jointed", "fixed"]]
    noun: ClassVar[str]

    @property
    def rest_height_m(self) -> float:
        """Height of the body's origin when the thing stands on the table."""
        return 0.0

    @property
    def painted(self) -> tuple[str, ...]:
        """Names of the geoms that take the thing's colour."""
        return (self.name,)

    def describe(self, colour: str) -> str:
        """How an instruction calls it."""
        return f"{colour} {self.noun}" if len(self.palette) > 1 else self.noun

    @abstractmethod
    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Build the body at the world's origin."""

"""A knob that runs along a rail."""

from dataclasses import dataclass
from typing import ClassVar

import mujoco

from envs.props.base import Prop

RAIL_REACH_M = 0.10
"""How far the knob goes to either side of the rail's middle."""
KNOB_HALF_M = 0.018
KNOB_HEIGHT_M = 0.032
_POST_M = 0.01


@dataclass(frozen=True, kw_only=True)
class Slider(Prop):
    """A black rail along the body's y axis with a coloured knob, which stays where it is put.

    The knob's middle is ``KNOB_HEIGHT_M`` over the table and ``opening`` (m) along y from the rail's middle.
    """

    motion: ClassVar = "jointed"
    noun: ClassVar = "knob"

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Its ends are firm: an arm would push through soft ones.

        The rail only shows where the knob goes: nothing but the knob and the posts at its ends collides.
        """
        rail = spec.worldbody.add_body(name=self.name)
        end = RAIL_REACH_M + KNOB_HALF_M + _POST_M
        box, dark = mujoco.mjtGeom.mjGEOM_BOX, [0.15, 0.15, 0.17, 1]
        rail.add_geom(
            type=box, pos=(0, 0, 0.003), size=(KNOB_HALF_M, end + _POST_M, 0.003), rgba=dark, contype=0, conaffinity=0
        )
        for side in (-end, end):
            rail.add_geom(type=box, pos=(0, side, 0.008), size=(KNOB_HALF_M, _POST_M / 2, 0.008), rgba=dark)
        knob = rail.add_body(name=f"{self.name}/knob", pos=(0, 0, KNOB_HEIGHT_M), gravcomp=1)
        knob.add_joint(
            name=self.name,
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=(0, 1, 0),
            range=(-RAIL_REACH_M, RAIL_REACH_M),
            limited=True,
            damping=5.0,
            frictionloss=1.0,
            solref_limit=[0.01, 1.0],
            solimp_limit=[0.99, 0.999, 0.001, 0.5, 2.0],
        )
        knob.add_geom(name=self.name, type=box, size=(KNOB_HALF_M, KNOB_HALF_M, 0.018), mass=0.1)

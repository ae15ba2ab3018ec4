"""Parallel grippers: what robots hold things with, and what tasks may assume of their fingers."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import mujoco

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class GripperSpec:
    """A parallel gripper described by an MJCF file; names are those of the file, lengths metres.

    In its frame the origin is on the flange, z points to the tool point, y is the way the fingers open.
    ``opening_m`` is the widest gap between them, ``tool_m`` how far the tool point is from the flange. The hand is a
    box of ``hand_size_m`` (x, y, z) whose middle is ``hand_at_m`` from the flange; ``mass_kg`` is the hand's.
    """

    mjcf: str = "parallel_gripper.xml"
    opening_m: float = 0.08
    tool_m: float = 0.1034
    hand_size_m: tuple[float, float, float] = (0.06, 0.2, 0.06)
    hand_at_m: float = 0.035
    mass_kg: float = 0.73
    rgba: tuple[float, float, float, float] = (0.92, 0.92, 0.94, 1.0)
    hand: str = "hand"
    left_finger: str = "left_finger"
    right_finger: str = "right_finger"
    fingers: tuple[str, str] = ("finger1", "finger2")
    tool_site: str = "tcp"
    camera: str = "wrist"
    actuator: str = "gripper"
    """``hand``, ``left_finger`` and ``right_finger`` are bodies, each with a main geom of the same name; ``fingers``
    are the joints of the latter two."""

    def build(self) -> mujoco.MjSpec:
        """The gripper alone, not yet compiled: the file with this description's measures."""
        gripper = mujoco.MjSpec.from_file(str(_FOLDER / self.mjcf))
        site, hand = gripper.site(self.tool_site), gripper.geom(self.hand)
        further_m = self.tool_m - site.pos[2]
        site.pos[2] += further_m
        for body in (self.left_finger, self.right_finger):
            gripper.body(body).pos[2] += further_m
        gripper.camera(self.camera).pos[2] += self.hand_at_m - hand.pos[2]
        hand.pos[2], hand.mass, hand.rgba = self.hand_at_m, self.mass_kg, self.rgba
        hand.size = [extent_m / 2 for extent_m in self.hand_size_m]
        for joint in self.fingers:
            gripper.joint(joint).range = (0, self.opening_m / 2)
        gripper.actuator(self.actuator).ctrlrange = (0, self.opening_m / 2)
        return gripper

    @property
    def fingertip_m(self) -> float:
        """How far the fingers reach beyond the tool point: pointing down, the tool can come no nearer to a table."""
        lengthwise = self._finger_box[1][2]
        return lengthwise - self.tool_m

    @property
    def finger_width_m(self) -> float:
        """A finger's extent along the tool's x."""
        low, high = self._finger_box
        return high[0] - low[0]

    @property
    def finger_thickness_m(self) -> float:
        """A finger's extent along the tool's y: from where it meets the other one to its back."""
        return self._finger_box[1][1]

    @property
    def corner_m(self) -> float:
        """How far the outer corners of the closed fingers are from the tool's axis."""
        return math.hypot(self.finger_width_m / 2, self.finger_thickness_m)

    @property
    def corner_rad(self) -> float:
        """In which direction those corners are: the angle from the tool's x towards its y."""
        return math.atan2(self.finger_thickness_m, self.finger_width_m / 2)

    @cached_property
    def _finger_box(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lowest and highest x, y, z of the left finger's box, closed, in the gripper's frame."""
        gripper = self.build()
        body, box = gripper.body(self.left_finger), gripper.geom(self.left_finger)
        middle = [float(b + g) for b, g in zip(body.pos, box.pos, strict=True)]
        half = [float(extent) for extent in box.size]
        low = tuple(m - h for m, h in zip(middle, half, strict=True))
        return low, tuple(m + h for m, h in zip(middle, half, strict=True))


PANDA_HAND = GripperSpec()
"""Of the size and stroke of Franka's."""
STROKE_85 = GripperSpec(
    opening_m=0.085,
    tool_m=0.115,
    hand_size_m=(0.06, 0.18, 0.05),
    hand_at_m=0.045,
    mass_kg=0.9,
    rgba=(0.25, 0.26, 0.28, 1.0),
)
"""Of 85 mm stroke, as is usual on a UR5e."""
SMALL = GripperSpec(
    tool_m=0.1, hand_size_m=(0.05, 0.17, 0.04), hand_at_m=0.035, mass_kg=0.2, rgba=(0.95, 0.72, 0.18, 1.0)
)
"""Of the Panda's stroke, with a light hand."""

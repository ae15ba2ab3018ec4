"""What a task needs to know of a robot arm with a gripper."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import mujoco

from envs.control.modes import ControlMode
from envs.control.servo import ServoConfig
from envs.robots.grippers import GripperSpec

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class ArmSpec:
    """An arm described by an MJCF file; names are those of the file, lengths metres, angles radians.

    ``joints`` are the hinges from base to wrist; actuators follow the same order and end with the gripper's.
    ``gripper`` is bolted to the file's site ``flange``, turned by ``gripper_turn_rad`` about its z axis. ``home_rad``
    is the posture at episode start, ``base_m`` where the base stands in the world: the workspace is the same for
    every arm. ``control`` is what actions mean, ``servo`` how the arm obeys them.
    """

    name: str
    mjcf: str
    joints: tuple[str, ...]
    home_rad: tuple[float, ...]
    gripper: GripperSpec
    gripper_turn_rad: float = 0.0
    flange: str = "flange"
    base_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    control_rate_hz: float = 20.0
    control: ControlMode = "delta_pose"
    servo: ServoConfig = field(default_factory=ServoConfig)

    @property
    def prefix(self) -> str:
        """Prepended to every name of the files, the gripper's among them, when the arm is put into a scene."""
        return f"{self.name}/"

    @property
    def fingers(self) -> tuple[str, str]:
        """The gripper's two slides."""
        return self.gripper.fingers

    @property
    def tool_site(self) -> str:
        """The site between the fingertips that is moved about."""
        return self.gripper.tool_site

    @property
    def cameras(self) -> tuple[str, ...]:
        """What the arm carries to see with."""
        return (self.gripper.camera,)

    @property
    def opening_m(self) -> float:
        """The widest gap between the fingers."""
        return self.gripper.opening_m

    def build(self) -> mujoco.MjSpec:
        """The arm and its gripper alone, the base at the origin, not yet compiled."""
        robot = mujoco.MjSpec.from_file(str(_FOLDER / self.mjcf))
        flange, half_turn = robot.site(self.flange), self.gripper_turn_rad / 2
        turn = [math.cos(half_turn), 0.0, 0.0, math.sin(half_turn)]
        robot.attach(self.gripper.build(), frame=flange.parent.add_frame(pos=flange.pos, quat=turn), prefix="")
        return robot

    def attach_to(self, scene: mujoco.MjSpec) -> None:
        """Bolt the arm's base to the world at ``base_m``."""
        scene.attach(self.build(), frame=scene.worldbody.add_frame(pos=self.base_m), prefix=self.prefix)

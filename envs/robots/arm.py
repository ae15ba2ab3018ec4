"""What a task needs to know of a robot arm with a parallel gripper."""

from dataclasses import dataclass, field
from pathlib import Path

import mujoco

from envs.control import DeltaPoseConfig
from envs.specs import Dimension

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class ArmSpec:
    """An arm described by an MJCF file; names are those of the file, lengths metres, angles radians.

    ``joints`` are the hinges from base to wrist, ``fingers`` the two slides; actuators follow the same order and end
    with the gripper. ``home_rad`` is the posture at episode start, ``opening_m`` the widest gap between the fingers,
    ``base_m`` where the base stands in the world: the workspace is the same for every arm.
    """

    name: str
    mjcf: str
    joints: tuple[str, ...]
    fingers: tuple[str, str]
    tool_site: str
    cameras: tuple[str, ...]
    home_rad: tuple[float, ...]
    opening_m: float
    base_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    control_rate_hz: float = 20.0
    control: DeltaPoseConfig = field(default_factory=DeltaPoseConfig)

    @property
    def prefix(self) -> str:
        """Prepended to every name of the file when the arm is put into a scene."""
        return f"{self.name}/"

    def build(self) -> mujoco.MjSpec:
        """The arm alone, its base at the origin, not yet compiled."""
        return mujoco.MjSpec.from_file(str(_FOLDER / self.mjcf))

    def attach_to(self, scene: mujoco.MjSpec) -> None:
        """Bolt the arm's base to the world at ``base_m``."""
        scene.attach(self.build(), frame=scene.worldbody.add_frame(pos=self.base_m), prefix=self.prefix)

    def state_dimensions(self) -> tuple[Dimension, ...]:
        """Tool position (m), the tool frame's x and y axes, finger gap (m), joint angles (rad).

        Two axes are the 6-D rotation of Zhou et al. (2019): unlike a quaternion it has no sign to flip, which for a
        tool that points straight down (w = 0) would happen at every tremor.
        """
        position = tuple(Dimension(name=f"tool_{axis}", unit="m", low=-1.5, high=1.5) for axis in "xyz")
        axes = tuple(
            Dimension(name=f"tool_{axis}_axis_{part}", unit="1", low=-1.0, high=1.0) for axis in "xy" for part in "xyz"
        )
        gap = Dimension(name="gripper_gap", unit="m", low=0.0, high=self.opening_m, frame="gripper")
        angles = tuple(Dimension(name=name, unit="rad", low=-6.3, high=6.3, frame="joint") for name in self.joints)
        return (*position, *axes, gap, *angles)

    def action_dimensions(self) -> tuple[Dimension, ...]:
        """Pose difference per control step in the world frame, then the gripper command."""
        reach, turn = self.control.max_translation_m, self.control.max_rotation_rad
        position = tuple(Dimension(name=f"d{axis}", unit="m", low=-reach, high=reach, relative=True) for axis in "xyz")
        rotation = tuple(Dimension(name=f"r{axis}", unit="rad", low=-turn, high=turn, relative=True) for axis in "xyz")
        gripper = Dimension(name="gripper", unit="0 open … 1 closed", low=0.0, high=1.0, frame="gripper")
        return (*position, *rotation, gripper)

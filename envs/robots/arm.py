"""What a task needs to know of a robot arm with a parallel gripper."""

from dataclasses import dataclass, field
from pathlib import Path

import mujoco

from envs.control.modes import ControlMode
from envs.control.servo import ServoConfig

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class ArmSpec:
    """An arm described by an MJCF file; names are those of the file, lengths metres, angles radians.

    ``joints`` are the hinges from base to wrist, ``fingers`` the two slides; actuators follow the same order and end
    with the gripper. ``home_rad`` is the posture at episode start, ``opening_m`` the widest gap between the fingers,
    ``base_m`` where the base stands in the world: the workspace is the same for every arm. ``control`` is what actions
    mean, ``servo`` how the arm obeys them.
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
    control: ControlMode = "delta_pose"
    servo: ServoConfig = field(default_factory=ServoConfig)

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

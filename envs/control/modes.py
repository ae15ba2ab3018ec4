"""What an action means: a change of the tool's pose, a pose, or joint angles; then the gripper, 0 open … 1 closed.

Every mode drives the same servo, and every mode keeps the tool pose that is commanded now, which observations show.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from envs.control.servo import PoseServo, ServoConfig, ToolPose
from envs.rotations import compose, rotation_vector
from envs.specs import Dimension

ControlMode = Literal["delta_pose", "absolute_pose", "joint_position"]
GRIPPER = Dimension(name="gripper", unit="0 open … 1 closed", low=0.0, high=1.0, frame="gripper")
REACH_M = 1.5
"""Bound of tool positions, in states and in absolute actions."""


class Controller(ABC):
    """Turns actions into actuator targets: joint angles (rad), then the finger opening (m).

    ``joints_rad`` is always where the arm is, ``command`` the actuator targets now in force, ``pose`` the tool pose
    commanded now.
    """

    def __init__(self, servo: PoseServo, gripper_open_m: float) -> None:
        self._servo, self._gripper_open_m = servo, gripper_open_m

    @staticmethod
    @abstractmethod
    def dimensions(servo: ServoConfig, joints: Sequence[Dimension]) -> tuple[Dimension, ...]:
        """The dimensions of an action before the gripper's; ``joints`` are the arm's own."""

    @abstractmethod
    def arm_targets(
        self, action: Float[Tensor, "n b"], near_rad: Float[Tensor, "n j"], pose: ToolPose
    ) -> tuple[Float[Tensor, "n j"], ToolPose]:
        """Joint targets and commanded pose after an action (without the gripper); ``near_rad`` are those in force."""

    @abstractmethod
    def arm_action(
        self, move: Float[Tensor, "n 6"], near_rad: Float[Tensor, "n j"], pose: ToolPose
    ) -> Float[Tensor, "n b"]:
        """The action that does what the delta-pose action ``move`` does."""

    def targets(
        self,
        action: Float[Tensor, "n a"],
        joints_rad: Float[Tensor, "n j"],
        command: Float[Tensor, "n u"],
        pose: ToolPose,
    ) -> tuple[Float[Tensor, "n u"], ToolPose]:
        """The next actuator targets and commanded pose; what is asked beyond the limits is cut off."""
        near = self._servo.within_leash(command[:, :-1], joints_rad)
        arm, pose = self.arm_targets(action[:, :-1], near, pose)
        opening = self._gripper_open_m * (1 - action[:, -1:].clamp(0, 1))
        return torch.cat((arm, opening), -1), pose

    def translated(
        self,
        move: Float[Tensor, "n 7"],
        joints_rad: Float[Tensor, "n j"],
        command: Float[Tensor, "n u"],
        pose: ToolPose,
    ) -> Float[Tensor, "n a"]:
        """A delta-pose action, such as scripted experts give, as an action of this mode."""
        near = self._servo.within_leash(command[:, :-1], joints_rad)
        return torch.cat((self.arm_action(move[:, :-1], near, pose), move[:, -1:]), -1)

    def _follow(
        self, move: Float[Tensor, "n 6"], near_rad: Float[Tensor, "n j"], pose: ToolPose
    ) -> tuple[Float[Tensor, "n j"], ToolPose]:
        """Joint targets and commanded pose after a change of the tool's pose: metres and a rotation vector (rad)."""
        limits = self._servo.config
        reached = self._servo.chain.pose_and_jacobian(near_rad)
        pose = self._servo.anchored(pose, reached).moved(
            move[:, :3].clamp(-limits.max_translation_m, limits.max_translation_m),
            move[:, 3:].clamp(-limits.max_rotation_rad, limits.max_rotation_rad),
        )
        return self._servo.follow(pose, reached, near_rad), pose


class DeltaPose(Controller):
    """``(dx, dy, dz)`` in metres and a rotation vector ``(rx, ry, rz)`` in radians per control step, world frame.

    They are added to the *commanded* pose, so that a chunk of actions adds up to the same displacement whatever the
    servo's lag.
    """

    @staticmethod
    def dimensions(servo: ServoConfig, joints: Sequence[Dimension]) -> tuple[Dimension, ...]:
        reach, turn = servo.max_translation_m, servo.max_rotation_rad
        position = tuple(Dimension(name=f"d{axis}", unit="m", low=-reach, high=reach, relative=True) for axis in "xyz")
        rotation = tuple(Dimension(name=f"r{axis}", unit="rad", low=-turn, high=turn, relative=True) for axis in "xyz")
        return (*position, *rotation)

    def arm_targets(
        self, action: Float[Tensor, "n 6"], near_rad: Float[Tensor, "n j"], pose: ToolPose
    ) -> tuple[Float[Tensor, "n j"], ToolPose]:
        return self._follow(action, near_rad, pose)

    def arm_action(
        self, move: Float[Tensor, "n 6"], near_rad: Float[Tensor, "n j"], pose: ToolPose
    ) -> Float[Tensor, "n 6"]:
        return move


class AbsolutePose(Controller):
    """The tool's position (m) and the x and y axes of its frame, in the world, as the state gives them.

    The axes are made orthonormal. The commanded pose goes there no faster than a delta-pose action could take it.
    """

    @staticmethod
    def dimensions(servo: ServoConfig, joints: Sequence[Dimension]) -> tuple[Dimension, ...]:
        position = tuple(Dimension(name=f"tool_{axis}", unit="m", low=-REACH_M, high=REACH_M) for axis in "xyz")
        return (*position, *axes_dimensions())

    def arm_targets(
        self, action: Float[Tensor, "n 9"], near_rad: Float[Tensor, "n j"], pose: ToolPose
    ) -> tuple[Float[Tensor, "n j"], ToolPose]:
        x = normalize(action[:, 3:6], dim=-1)
        z = normalize(torch.linalg.cross(x, action[:, 6:9]), dim=-1)
        wanted = torch.stack((x, torch.linalg.cross(z, x), z), -1)
        turn = rotation_vector(compose(wanted, pose.rotation.mT))
        most = self._servo.config.max_rotation_rad
        turn = turn * (most / turn.norm(dim=-1, keepdim=True).clamp_min(most))
        return self._follow(torch.cat((action[:, :3] - pose.position, turn), -1), near_rad, pose)

    def arm_action(
        self, move: Float[Tensor, "n 6"], near_rad: Float[Tensor, "n j"], pose: ToolPose
    ) -> Float[Tensor, "n 9"]:
        return torch.cat(pose_parts(self._follow(move, near_rad, pose)[1]), -1)


class JointPosition(Controller):
    """Joint angles (rad); each goes no faster than ``max_turn_rad`` per control step."""

    @staticmethod
    def dimensions(servo: ServoConfig, joints: Sequence[Dimension]) -> tuple[Dimension, ...]:
        return tuple(joints)

    def arm_targets(
        self, action: Float[Tensor, "n j"], near_rad: Float[Tensor, "n j"], pose: ToolPose
    ) -> tuple[Float[Tensor, "n j"], ToolPose]:
        most = self._servo.config.max_turn_rad
        targets = self._servo.limited(near_rad + (action - near_rad).clamp(-most, most))
        position, rotation = self._servo.chain.pose(targets)
        return targets, ToolPose(position=position, rotation=rotation)

    def arm_action(
        self, move: Float[Tensor, "n 6"], near_rad: Float[Tensor, "n j"], pose: ToolPose
    ) -> Float[Tensor, "n j"]:
        return self._follow(move, near_rad, pose)[0]


MODES: dict[str, type[Controller]] = {
    "delta_pose": DeltaPose,
    "absolute_pose": AbsolutePose,
    "joint_position": JointPosition,
}


def axes_dimensions() -> tuple[Dimension, ...]:
    """The tool frame's x and y axes: the 6-D rotation of Zhou et al. (2019).

    Unlike a quaternion it has no sign to flip, which for a tool that points straight down (w = 0) would happen at every
    tremor.
    """
    return tuple(
        Dimension(name=f"tool_{axis}_axis_{part}", unit="1", low=-1.0, high=1.0) for axis in "xy" for part in "xyz"
    )


def pose_parts(pose: ToolPose) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """A tool pose as states and absolute actions hold it: position (m), then the x and y axes of its frame."""
    return pose.position, pose.rotation[:, :, 0], pose.rotation[:, :, 1]

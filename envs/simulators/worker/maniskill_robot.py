"""ManiSkill's robots in our units: what a robot tells of itself, what its actions mean, and where its tool is."""

import math
from typing import Any

import numpy as np

from .rotations import euler_xyz_of, matrix_of_quaternion, rotation_matrix_of

TOOL_MODE = "pd_ee_delta_pose"
"""The control mode of robots that have it: a change of the tool's pose, as seen from the robot's base."""
REACH_M, JOINT_SPEED, UNBOUNDED = 2.0, 60.0, 1000.0
"""Bounds of a tool's place, of a joint's speed (rad/s or m/s) and of a joint that has no limits."""
FINGER_OPEN_M = 0.04
"""How far from the middle each finger of an open Panda hand stands."""


class Arm:
    """An arm that is moved by its tool.

    Its state is where the tool is (m, world), the x and y axes of its frame, and how far the gripper is closed, if it
    has one. An action is a change of the tool's pose (m and a rotation vector in rad, in the frame of the base), and
    the gripper's command, 0 open … 1 closed.
    """

    def __init__(self, agent: Any, prefix: str = "") -> None:
        self._agent, self._prefix = agent, prefix
        controllers = agent.controller.controllers if hasattr(agent.controller, "controllers") else {}
        config = controllers["arm"].config if controllers else agent.controller.config
        self._most_m, self._rad_per_unit = float(config.pos_upper), float(config.rot_lower)
        self._gripper = "gripper" in controllers

    def state(self) -> np.ndarray:
        """What :meth:`described` says."""
        position, rotation = self.tool_pose()
        fingers = self._agent.robot.get_qpos()[0, -2:].cpu().numpy()
        closed = [1.0 - float(fingers.mean()) / FINGER_OPEN_M] if self._gripper else []
        return np.concatenate([position, np.clip(rotation[:, :2].T.reshape(6), -1, 1), np.clip(closed, 0, 1)])

    def tool_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Position (m) and rotation matrix of the tool in the world."""
        return pose_of(self._agent.tcp.pose)

    def base_rotation(self) -> np.ndarray:
        """The rotation matrix of the base in the world."""
        return pose_of(self._agent.robot.pose)[1]

    @property
    def has_gripper(self) -> bool:
        return self._gripper

    @property
    def most(self) -> tuple[float, float]:
        """How far the tool can be told to move (m, along each axis) and to turn (rad) in a step."""
        return self._most_m, abs(self._rad_per_unit)

    def to_theirs(self, action: np.ndarray) -> np.ndarray:
        """Our action as ManiSkill's (−1 … 1).

        It multiplies its three Euler angles by the lower limit, which is negative: +1 there turns by −0.1 rad.
        """
        angles = euler_xyz_of(rotation_matrix_of(action[3:6]))
        gripper = [1.0 - 2.0 * action[6]] if self._gripper else []
        moved = np.clip(action[:3] / self._most_m, -1, 1)
        return np.concatenate([moved, angles / self._rad_per_unit, np.clip(gripper, -1, 1)])

    @property
    def action_dim(self) -> int:
        return 6 + self._gripper

    def described(self) -> dict[str, Any]:
        """State and action, dimension by dimension, as ``envs.specs.EmbodimentSpec`` has them: JSON-ready."""
        prefix, grip = self._prefix, "0 open … 1 closed"
        state = [_dimension(f"{prefix}tool_{axis}", "m", REACH_M) for axis in "xyz"]
        state += [_dimension(f"{prefix}tool_{axis}_axis_{part}", "1", 1.0) for axis in "xy" for part in "xyz"]
        action = [_dimension(f"{prefix}d{axis}", "m", self._most_m, frame="base", relative=True) for axis in "xyz"]
        turns = abs(self._rad_per_unit)
        action += [_dimension(f"{prefix}r{axis}", "rad", turns, frame="base", relative=True) for axis in "xyz"]
        if self._gripper:
            state.append(_dimension(f"{prefix}gripper_closed", grip, 1.0, low=0.0, frame="gripper"))
            action.append(_dimension(f"{prefix}gripper", grip, 1.0, low=0.0, frame="gripper"))
        return {"state": state, "action": action}


class Joints:
    """A robot that is moved by its joints, in ManiSkill's own control mode; an action is what the joints are told.

    Its state is the position (rad or m) and the speed of each active joint.
    """

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        controller = agent.controller
        parts = list(controller.controllers.values()) if hasattr(controller, "controllers") else [controller]
        self._names: list[str] = []
        low, high, scaled, relative = [], [], [], []
        for part in parts:
            space = part._original_single_action_space if part._normalize_action else part.single_action_space
            count = len(space.low)
            self._names += [joint.name for joint in part.joints][:count]
            low, high = [*low, *space.low.tolist()], [*high, *space.high.tolist()]
            scaled += [bool(part._normalize_action)] * count
            relative += [bool(getattr(part.config, "use_delta", False))] * count
        self._low, self._high = np.array(low, np.float64), np.array(high, np.float64)
        self._scaled, self._relative = np.array(scaled), relative

    def state(self) -> np.ndarray:
        """What :meth:`described` says, within its bounds."""
        robot = self._agent.robot
        positions, speeds = (np.asarray(part[0].cpu()) for part in (robot.get_qpos(), robot.get_qvel()))
        low, high = self._limits()
        return np.concatenate([np.clip(positions, low, high), np.clip(speeds, -JOINT_SPEED, JOINT_SPEED)])

    def to_theirs(self, action: np.ndarray) -> np.ndarray:
        """Our action as ManiSkill's, which scales the range of some joints to −1 … 1."""
        action = np.clip(action, self._low, self._high)
        middle, half = (self._high + self._low) / 2, np.maximum((self._high - self._low) / 2, 1e-9)
        return np.where(self._scaled, (action - middle) / half, action)

    @property
    def action_dim(self) -> int:
        return len(self._low)

    def _limits(self) -> np.ndarray:
        limits = np.asarray(self._agent.robot.get_qlimits()[0].cpu(), np.float64).T
        return np.clip(limits, -UNBOUNDED, UNBOUNDED)

    def described(self) -> dict[str, Any]:
        """As :meth:`Arm.described`."""
        joints = self._agent.robot.active_joints
        units = {joint.name: "m" if str(joint.type[0]).startswith("prismatic") else "rad" for joint in joints}
        low, high = self._limits()
        state = [
            _dimension(joint.name, units[joint.name], float(high[i]), low=float(low[i]), frame="joint")
            for i, joint in enumerate(joints)
        ]
        state += [
            _dimension(f"{joint.name}_speed", f"{units[joint.name]}/s", JOINT_SPEED, frame="joint") for joint in joints
        ]
        action = [
            _dimension(
                name, units[name], float(self._high[i]), low=float(self._low[i]), frame="joint", relative=relative
            )
            for i, (name, relative) in enumerate(zip(self._names, self._relative, strict=True))
        ]
        return {"state": state, "action": action}


def pose_of(pose: Any) -> tuple[np.ndarray, np.ndarray]:
    """Position (m) and rotation matrix of one of ManiSkill's poses, a batch of one."""
    raw = np.asarray(pose.raw_pose[0].cpu(), np.float64)
    return raw[:3], matrix_of_quaternion(raw[3:])


def _dimension(
    name: str, unit: str, high: float, *, low: float | None = None, frame: str = "world", relative: bool = False
) -> dict[str, Any]:
    low = -high if low is None else low
    rounded = [math.floor(low * 1e4) / 1e4, math.ceil(high * 1e4) / 1e4]
    return {
        "name": name,
        "unit": unit,
        "low": rounded[0],
        "high": rounded[1],
        "frame": frame,
        "relative": relative,
    }

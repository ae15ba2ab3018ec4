"""ManiSkill's own motion planning as a demonstrator that is asked step by step, by the tool's pose.

Its planners play an episode from beginning to end, in joint space. They do so in a world of their own with the same
seed, and where they told the tool to be is then followed with changes of its pose: closed loop, so that a push or a
finger that lags is made good.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .maniskill_robot import Arm, pose_of
from .rotations import matrix_of_quaternion, rotation_vector_of

AHEAD_M, AHEAD_RAD = 0.03, 0.09
"""How far ahead of the tool the waypoint that it is told to go to may lie."""
THERE_M, THERE_RAD = 0.008, 0.05
"""How near the tool has to come before the gripper moves."""
MOST_WAITING_STEPS = 12
"""For the tool to come that near."""


@dataclass(frozen=True)
class Plan:
    """Where the tool is to be: positions (m, world) ``(t, 3)``, rotation matrices ``(t, 3, 3)``, gripper 0 … 1."""

    positions: np.ndarray
    rotations: np.ndarray
    gripper: np.ndarray

    def __len__(self) -> int:
        return len(self.gripper)


@dataclass
class Progress:
    """The waypoint that is gone to, and for how many steps the gripper's next move has been waited with."""

    at: int = 0
    waited: int = 0


def advance(plan: Plan, progress: Progress, position: np.ndarray, rotation: np.ndarray) -> None:
    """Bring ``progress`` up to where the tool is: as far ahead as allowed, but past no move of the gripper before the
    tool has come to where that is made."""
    started = progress.at
    while progress.at + 1 < len(plan):
        here, following = progress.at, progress.at + 1
        moves_gripper = plan.gripper[following] != plan.gripper[here]
        near = _apart(plan, here, position, rotation)
        if moves_gripper and not (near[0] < THERE_M and near[1] < THERE_RAD) and progress.waited < MOST_WAITING_STEPS:
            progress.waited += progress.at == started
            return
        ahead = _apart(plan, following, position, rotation)
        stands = np.allclose(plan.positions[following], plan.positions[here], atol=1e-5)
        if progress.at > started and (moves_gripper or stands or ahead[0] > AHEAD_M or ahead[1] > AHEAD_RAD):
            return
        if progress.at == started and (near[0] > 2 * AHEAD_M or near[1] > 2 * AHEAD_RAD):
            return
        progress.at, progress.waited = following, 0


def towards(plan: Plan, progress: Progress, arm: Arm) -> np.ndarray:
    """The change of the tool's pose that leads to the waypoint, within what the arm can be told, and its gripper."""
    position, rotation = arm.tool_pose()
    to_base = arm.base_rotation().T
    way = to_base @ (plan.positions[progress.at] - position)
    turn = to_base @ rotation_vector_of(plan.rotations[progress.at] @ rotation.T)
    most_m, most_rad = arm.most
    way *= min(1.0, most_m / max(float(np.abs(way).max()), 1e-9))
    turn *= min(1.0, most_rad / max(float(np.linalg.norm(turn)), 1e-9))
    return np.concatenate([way, turn, plan.gripper[progress.at : progress.at + 1] if arm.has_gripper else []])


def _apart(plan: Plan, at: int, position: np.ndarray, rotation: np.ndarray) -> tuple[float, float]:
    turn = rotation_vector_of(plan.rotations[at] @ rotation.T)
    return float(np.linalg.norm(plan.positions[at] - position)), float(np.linalg.norm(turn))


class Planner:
    """Plans episodes of a task for which ManiSkill has a motion planner; ``make`` makes a world that is moved by its
    joints, which is done when the first plan is asked for."""

    def __init__(self, env_id: str, make: Callable[[], Any]) -> None:
        from mani_skill.examples.motionplanning.panda.run import MP_SOLUTIONS

        if env_id not in MP_SOLUTIONS:
            raise ValueError(f"ManiSkill has no motion planner for {env_id}; it has {', '.join(MP_SOLUTIONS)}")
        self._solve, self._make = MP_SOLUTIONS[env_id], make
        self._env: Any = None

    def plan(self, seed: int) -> Plan:
        """What the planner does in the episode of ManiSkill's seed: one waypoint for each of its control steps.

        A planner that fails on its way leaves what it had done; whether that solves the task is seen when it is played.
        """
        self._env = self._env or self._make()
        with _watched(self._env) as told, contextlib.redirect_stdout(io.StringIO()):
            try:
                self._solve(self._env, seed=seed, debug=False, vis=False)
            except Exception as error:
                if not told:
                    raise RuntimeError(f"ManiSkill's planner failed before its first step: {error}") from error
        return _as_plan(self._env, told)

    def close(self) -> None:
        """Free the world."""
        if self._env is not None:
            self._env.close()


@contextlib.contextmanager
def _watched(env: Any) -> Iterator[list[np.ndarray]]:
    """Inside, what the world's joints are told is kept; episodes begin in a scene made anew, as those played do."""
    told: list[np.ndarray] = []
    step, reset = env.step, env.reset

    def watched_step(action: Any) -> Any:
        told.append(np.array(action, np.float64).reshape(-1))
        return step(action)

    env.step, env.reset = watched_step, lambda seed=None, **_: reset(seed=seed, options={"reconfigure": True})
    try:
        yield told
    finally:
        del env.step, env.reset


def _as_plan(env: Any, told: list[np.ndarray]) -> Plan:
    """Commanded joint positions as poses of the tool."""
    agent = env.agent
    robot, model = agent.robot._objs[0], agent.robot._objs[0].create_pinocchio_model()
    link = robot.links.index(agent.tcp._objs[0])
    base_position, base_rotation = pose_of(agent.robot.pose)
    fingers = np.asarray(agent.robot.get_qpos()[0].cpu(), np.float64)
    arm_joints = len(agent.arm_joint_names)
    positions, rotations, gripper = [], [], []
    for action in told:
        joints = fingers.copy()
        joints[:arm_joints] = action[:arm_joints]
        model.compute_forward_kinematics(joints)
        pose = model.get_link_pose(link)
        positions.append(base_position + base_rotation @ np.asarray(pose.p))
        rotations.append(base_rotation @ matrix_of_quaternion(np.asarray(pose.q)))
        closing = (1.0 - action[arm_joints]) / 2 if len(action) > arm_joints else 0.0
        gripper.append(min(max(closing, 0.0), 1.0))
    return Plan(np.array(positions), np.array(rotations), np.array(gripper))

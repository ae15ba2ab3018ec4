"""robosuite behind the seam: its tasks with Panda arms and its default controller, episode by episode.

Physics, controller, placement and success are robosuite's own. What is left out are its observables, which nobody reads
here: state and pictures are taken from the simulation when somebody looks.
"""

import logging
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

from envs.language import Split
from envs.simulators.base import (
    GRIPPER_COMMAND,
    DivergedError,
    SimulatedTask,
    axes_dimensions,
    delta_dimensions,
    episode_generator,
    flat_axes,
    gripper_state,
    position_dimensions,
)
from envs.simulators.robosuite_experts import EXPERTS
from envs.simulators.seeing import Seeing
from envs.simulators.states import full_state, put_full_state
from envs.simulators.told import ToldWorld
from envs.simulators.views import Views
from envs.specs import (
    CALIBRATED,
    DETERMINISTIC,
    EXPERT,
    SNAPSHOTS,
    STATE_KEY,
    STREAMS,
    Dimension,
    EmbodimentSpec,
    Stream,
)

MOST_M, MOST_RAD = 0.05, 0.5
"""What one unit of robosuite's default controller means: OSC_POSE, kp 150, relative to the pose that was reached."""
REACH_M = 3.0
OPENING_M = 0.08
"""How far the fingers of robosuite's Panda gripper are apart when it is open."""
FINGERS = 2
COLLISION_GROUP = 0
CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}
MEMORYLESS = frozenset({"Wipe"})
"""Tasks that remember more than physics and grippers say, so that they cannot be photographed."""


class RobosuiteWorld(ToldWorld):
    """One robosuite environment; fulfils :class:`envs.simulators.world.SimulatorWorld`.

    An action is, for each arm, a change of the tool's pose (metres and a rotation vector in the frame of its base) and
    the gripper, 0 open … 1 closed, of which robosuite heeds on which side of a half it is. Episodes end with success,
    or where robosuite ends them. Rewards are robosuite's shaped ones.
    """

    def __init__(self, task: SimulatedTask, seeing: Seeing, split: Split) -> None:
        super().__init__(task, split)
        self._env = _make(task.there)
        self.embodiment = _embodiment(self._arms, seeing)
        declared = {CALIBRATED, DETERMINISTIC} | ({EXPERT} if task.expert else set())
        self.capabilities = frozenset(declared | (set() if task.there in MEMORYLESS else {SNAPSHOTS}))
        self._views = Views(seeing, _cameras(self._env), hidden=(COLLISION_GROUP,))

    def reset(self, stream: Stream, seed: int) -> None:
        self._begin(stream, seed)
        # Placement samplers share this generator, so that it is set, not replaced.
        self._env.rng.bit_generator.state = episode_generator(stream, seed, "robosuite").bit_generator.state
        self._env.reset()
        self._refresh()

    def step(self, action: Float[np.ndarray, " a"]) -> tuple[float, bool, bool]:
        _, reward, over, _ = self._env.step(self._translated(action))
        if not np.isfinite(self._data.qpos).all() or self._data.warning[mujoco.mjtWarning.mjWARN_BADQACC].number:
            raise DivergedError(f"{self.task_name} diverged in the episode of seed {self._seed}")
        solved = bool(self._env._check_success())
        return float(reward), bool(over) and not solved, solved

    def observe(self) -> dict[str, Any]:
        self._refresh()
        parts = [part for robot, arm in self._arms for part in _arm_state(self._data, robot, arm)]
        return {STATE_KEY: np.concatenate(parts).astype(np.float32), **self._views.draw(self._model, self._data)}

    def expert_action(self) -> Float[np.ndarray, " a"]:
        self._refresh()
        return EXPERTS[self._task.there](self._env)

    def snapshot(self) -> dict[str, np.ndarray]:
        return {
            "seed": np.array([STREAMS.index(self._stream), self._seed]),
            "physics": full_state(self._model, self._data),
            "steps": np.array(self._env.timestep),
            "grippers": np.array([np.zeros(FINGERS) + gripper.current_action for gripper in self._grippers]),
        }

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        stream, seed = snapshot["seed"].tolist()
        if (STREAMS[stream], seed) != (self._stream, self._seed):
            self.reset(STREAMS[stream], seed)
        put_full_state(self._model, self._data, snapshot["physics"])
        self._env.timestep = int(snapshot["steps"])
        self._env.cur_time = self._env.timestep * self._env.control_timestep
        for gripper, command in zip(self._grippers, snapshot["grippers"], strict=True):
            gripper.current_action = command.copy()
        for robot in self._env.robots:
            for controller in robot.composite_controller.part_controllers.values():
                controller.new_update = True  # what it read before the photograph was put back is no longer so

    def close(self) -> None:
        self._views.close()

    @property
    def _arms(self) -> list[tuple[Any, str]]:
        """Robots and their arms; a reset makes new ones."""
        return [(robot, arm) for robot in self._env.robots for arm in robot.arms]

    @property
    def _grippers(self) -> list[Any]:
        return [robot.gripper[arm] for robot, arm in self._arms if robot.gripper[arm].dof]

    @property
    def _model(self) -> mujoco.MjModel:
        return self._env.sim.model._model

    @property
    def _data(self) -> mujoco.MjData:
        return self._env.sim.data._data

    def _refresh(self) -> None:
        """Bring positions up to date: robosuite leaves them a physics step behind. No later step depends on it."""
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def _translated(self, action: Float[np.ndarray, " a"]) -> Float[np.ndarray, " b"]:
        """Our units in robosuite's."""
        parts, cursor = [], 0
        for robot, arm in self._arms:
            parts += [action[cursor : cursor + 3] / MOST_M, action[cursor + 3 : cursor + 6] / MOST_RAD]
            cursor += 6
            if robot.gripper[arm].dof:
                parts.append(2 * action[cursor : cursor + 1] - 1)
                cursor += 1
        return np.clip(np.concatenate(parts), -1, 1)


def _make(name: str) -> Any:
    """A robosuite environment as its benchmark has it, without renderer and observables."""
    logging.disable(logging.WARNING)  # importing it tells of things that nobody here wants
    try:
        import robosuite
        from robosuite.utils.log_utils import ROBOSUITE_DEFAULT_LOGGER
    finally:
        logging.disable(logging.NOTSET)
    ROBOSUITE_DEFAULT_LOGGER.setLevel(logging.ERROR)
    env = robosuite.make(
        name,
        robots=["Panda", "Panda"] if name.startswith("TwoArm") else "Panda",
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        renderer="mujoco",
        reward_shaping=True,
        ignore_done=True,
        seed=0,
    )
    env._update_observables = lambda force=False: None
    env._get_observations = lambda force_update=False: {}
    return env


def _cameras(env: Any) -> Mapping[str, str]:
    """Our names of the cameras: the one before the table, and one on each wrist."""
    if len(env.robots) == 1:
        return CAMERAS
    return {"agentview": "agentview", **{f"wrist{i}": f"robot{i}_eye_in_hand" for i in range(len(env.robots))}}


def _embodiment(arms: list[tuple[Any, str]], seeing: Seeing) -> EmbodimentSpec:
    state: list[Dimension] = []
    action: list[Dimension] = []
    for i, (robot, arm) in enumerate(arms):
        prefix = f"arm{i}_" if len(arms) > 1 else ""
        state += [*position_dimensions(REACH_M, prefix), *axes_dimensions(prefix)]
        action += [
            *delta_dimensions("d", "m", MOST_M, "base", prefix),
            *delta_dimensions("r", "rad", MOST_RAD, "base", prefix),
        ]
        if robot.gripper[arm].dof:
            state.append(gripper_state(prefix))
            action.append(Dimension(**{**vars(GRIPPER_COMMAND), "name": f"{prefix}gripper"}))
    name = "robosuite-panda" if len(arms) == 1 else "robosuite-two-pandas"
    cameras = CAMERAS if len(arms) == 1 else ("agentview", *(f"wrist{i}" for i in range(len(arms))))
    return EmbodimentSpec(
        name=name if all(robot.gripper[arm].dof for robot, arm in arms) else f"{name}-with-tools",
        control_rate_hz=20.0,
        state=tuple(state),
        action=tuple(action),
        cameras=seeing.cameras(cameras),
    )


def _arm_state(data: mujoco.MjData, robot: Any, arm: str) -> list[np.ndarray]:
    """Position and axes of an arm's tool, and how far its gripper is closed if it has one."""
    site = robot.eef_site_id[arm]
    parts = [data.site_xpos[site].copy(), flat_axes(data.site_xmat[site].reshape(3, 3))]
    if robot.gripper[arm].dof:
        fingers = data.qpos[robot._ref_gripper_joint_pos_indexes[arm]]
        parts.append(np.clip(1 - np.abs(fingers).sum(keepdims=True) / OPENING_M, 0, 1))
    return parts

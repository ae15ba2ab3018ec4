"""Gymnasium-Robotics' Fetch tasks behind the seam: a mobile robot's arm at a table, and a goal that is seen.

Plappert et al. 2018. Physics, placement, reward and success are theirs. Their goal is a number that the policy is
given; here it is the red ball of their own scenes, put where the goal is, and no number.
"""

from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

from envs.language import Split
from envs.simulators.base import (
    GRIPPER_COMMAND,
    DivergedError,
    SimulatedTask,
    delta_dimensions,
    episode_generator,
    gripper_state,
    position_dimensions,
)
from envs.simulators.fetch_experts import EXPERTS
from envs.simulators.seeing import Seeing
from envs.simulators.states import full_state, put_full_state
from envs.simulators.told import ToldWorld
from envs.simulators.views import Views
from envs.specs import CALIBRATED, DETERMINISTIC, EXPERT, SNAPSHOTS, STATE_KEY, STREAMS, EmbodimentSpec, Stream

MOST_M = 0.05
"""How far the hand is moved by one unit of an action."""
CAMERAS = {"front": "head_camera_rgb", "wrist": "gripper_camera_rgb"}
"""Our names of cameras in their scene. There both look at nothing (one over the table, one into the gripper); they are
put elsewhere: before the table, and above the fingers."""
FRONT_EYE_M, FRONT_AT_M, FRONT_FOVY_DEG = (2.05, 1.45, 1.15), (1.3, 0.75, 0.5), 45.0
WRIST_EYE_M, WRIST_PITCH_RAD, WRIST_FOVY_DEG = (-0.06, 0.0, 0.11), 0.45, 60.0
"""In the frame of the gripper's link, whose x axis is the fingers'."""
RATE_HZ = 25.0
REACH_M = 2.5
FINGERS_OPEN_M = 0.1
"""Both fingers together."""
_UNDRAWN = 4
"""A group of geoms that is not drawn: green beams mark where the hand is told to go, and belong to no scene."""


class FetchWorld(ToldWorld):
    """One Fetch environment; fulfils :class:`envs.simulators.world.SimulatorWorld`.

    An action is how far the hand is to be moved (metres), and the gripper's command: 0 opens it, 1 closes it, as fast
    as it can; where Gymnasium-Robotics blocks the gripper it means nothing. As there, an episode takes 50 steps
    whatever happens, and it is solved if the goal is met in the last of them.
    """

    def __init__(self, task: SimulatedTask, seeing: Seeing, split: Split) -> None:
        super().__init__(task, split)
        self._env = _make(task.there)
        self._expert = EXPERTS.get(task.there)
        self.embodiment = _embodiment(seeing)
        shown = {SNAPSHOTS, DETERMINISTIC, CALIBRATED}
        self.capabilities = frozenset(shown | {EXPERT} if self._expert else shown)
        self._views = Views(seeing, CAMERAS)
        self._taken = 0

    def reset(self, stream: Stream, seed: int) -> None:
        self._begin(stream, seed)
        self._taken = 0
        self._env.np_random = episode_generator(stream, seed, "fetch")
        self._env.reset()
        self._show_goal()

    def step(self, action: Float[np.ndarray, " a"]) -> tuple[float, bool, bool]:
        theirs = np.clip([*(action[:3] / MOST_M), 1 - 2 * action[3]], -1, 1)
        _, reward, _, _, info = self._env.step(theirs)
        if not np.isfinite(self._env.data.qpos).all():
            raise DivergedError(f"{self.task_name} diverged in the episode of seed {self._seed}")
        self._taken += 1
        last = self._taken >= self.max_episode_steps
        return float(reward), last, last and bool(info["is_success"])

    def observe(self) -> dict[str, Any]:
        state = np.array([*self._site("robot0:grip"), self._closed()], np.float32)
        return {STATE_KEY: state, **self._views.draw(self._env.model, self._env.data)}

    def expert_action(self) -> Float[np.ndarray, " 4"]:
        if self._expert is None:
            raise RuntimeError(f"{self.task_name} has no demonstrator")
        hand = self._site("robot0:grip")
        thing = self._site("object0") if self._env.has_object else hand
        return self._expert(hand, thing, self._env.goal, self._closed())

    def snapshot(self) -> dict[str, np.ndarray]:
        return {
            "episode": np.array([STREAMS.index(self._stream), self._seed, self._taken]),
            "physics": full_state(self._env.model, self._env.data),
        }

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        stream, seed, taken = snapshot["episode"].tolist()
        if (STREAMS[stream], seed) != (self._stream, self._seed):
            self.reset(STREAMS[stream], seed)
        self._taken = taken
        put_full_state(self._env.model, self._env.data, snapshot["physics"])

    def close(self) -> None:
        self._views.close()

    def _show_goal(self) -> None:
        """Put the red ball where the goal is, as their own renderer does, which is not used here."""
        model, data = self._env.model, self._env.data
        site = model.site("target0")
        model.site_pos[site.id] = self._env.goal - data.xpos[int(site.bodyid[0])]
        mujoco.mj_forward(model, data)

    def _site(self, name: str) -> Float[np.ndarray, " 3"]:
        return self._env.data.site(name).xpos.copy()

    def _closed(self) -> float:
        """How far the gripper is closed, 0 … 1."""
        fingers = [self._env.data.joint(f"robot0:{side}_gripper_finger_joint").qpos[0] for side in "lr"]
        return float(np.clip(1 - sum(fingers) / FINGERS_OPEN_M, 0, 1))


def _make(name: str) -> Any:
    """Their environment, without wrappers, paid for how near the goal is."""
    import gymnasium
    import gymnasium_robotics

    gymnasium.register_envs(gymnasium_robotics)
    made: Any = gymnasium.make(f"{name}Dense-v4", disable_env_checker=True).unwrapped
    _place_cameras(made.model)
    marks = made.model.geom_bodyid == made.model.body("robot0:mocap").id
    made.model.geom_group[marks] = _UNDRAWN
    return made


def _place_cameras(model: mujoco.MjModel) -> None:
    back = np.subtract(FRONT_EYE_M, FRONT_AT_M) / np.linalg.norm(np.subtract(FRONT_EYE_M, FRONT_AT_M))
    right = np.cross([0.0, 0.0, 1.0], back) / np.linalg.norm(np.cross([0.0, 0.0, 1.0], back))
    _place(model, CAMERAS["front"], 0, FRONT_EYE_M, right, back, FRONT_FOVY_DEG)
    link, right = model.body("robot0:gripper_link").id, np.array([0.0, -1.0, 0.0])
    back = np.array([-np.cos(WRIST_PITCH_RAD), 0.0, np.sin(WRIST_PITCH_RAD)])
    _place(model, CAMERAS["wrist"], link, WRIST_EYE_M, right, back, WRIST_FOVY_DEG)


def _place(
    model: mujoco.MjModel,
    name: str,
    body: int,
    eye_m: tuple[float, float, float],
    right: Float[np.ndarray, " 3"],
    back: Float[np.ndarray, " 3"],
    fovy_deg: float,
) -> None:
    """Put a camera on a body: its eye, and where its right and its back are, in the frame of that body."""
    camera, quaternion = model.camera(name).id, np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.stack([right, np.cross(back, right), back], 1).flatten())
    model.cam_bodyid[camera], model.cam_fovy[camera] = body, fovy_deg
    model.cam_pos[camera], model.cam_quat[camera] = eye_m, quaternion


def _embodiment(seeing: Seeing) -> EmbodimentSpec:
    return EmbodimentSpec(
        name="fetch",
        control_rate_hz=RATE_HZ,
        state=(*position_dimensions(REACH_M), gripper_state()),
        action=(*delta_dimensions("d", "m", MOST_M), GRIPPER_COMMAND),
        cameras=seeing.cameras(CAMERAS),
    )

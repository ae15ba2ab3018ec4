"""Meta-World behind the seam: a Sawyer arm at a table, one of fifty tasks, with Meta-World's own experts.

Physics, placement, reward and success are Meta-World's. The goal is observable to the experts, as in its multi-task
benchmarks; a policy sees pictures, the hand and the instruction.
"""

import warnings
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
from envs.simulators.seeing import Seeing
from envs.simulators.states import full_state, put_full_state
from envs.simulators.told import ToldWorld
from envs.simulators.views import Views
from envs.specs import CALIBRATED, DETERMINISTIC, EXPERT, SNAPSHOTS, STATE_KEY, STREAMS, EmbodimentSpec, Stream

MOST_M = 0.01
"""How far the hand is moved by one unit of an action."""
CAMERAS = {"corner2": "corner2", "wrist": "gripperPOV"}
ROLLED = frozenset({"corner2"})
"""Cameras that hang head down."""
RATE_HZ = 80.0
REACH_M = 1.5


class MetaworldWorld(ToldWorld):
    """One Meta-World environment; fulfils :class:`envs.simulators.world.SimulatorWorld`.

    An action is how far the hand is to be moved (metres), and how hard the gripper is closed: 0 opens it with full
    force, 1 closes it with full force. Goals are drawn by the episode's seed from the task's own ranges. Episodes end
    with success.
    """

    def __init__(self, task: SimulatedTask, seeing: Seeing, split: Split) -> None:
        from metaworld.policies import ENV_POLICY_MAP

        super().__init__(task, split)
        self._env = _make(task.there)
        self._expert = ENV_POLICY_MAP[task.there]()
        self.embodiment = _embodiment(seeing)
        self.capabilities = frozenset({EXPERT, SNAPSHOTS, DETERMINISTIC, CALIBRATED})
        self._views = Views(seeing, CAMERAS, rolled=ROLLED)
        self._seen: Float[np.ndarray, " 39"] = np.zeros(39)

    def reset(self, stream: Stream, seed: int) -> None:
        self._begin(stream, seed)
        self._env.np_random = episode_generator(stream, seed, "metaworld")
        self._env._last_stable_obs = np.zeros(39)
        self._seen, _ = self._env.reset()
        mujoco.mj_forward(self._env.model, self._env.data)

    def step(self, action: Float[np.ndarray, " a"]) -> tuple[float, bool, bool]:
        theirs = np.clip([*(action[:3] / MOST_M), 2 * action[3] - 1], -1, 1)
        self._seen, reward, _, _, info = self._env.step(theirs)
        if self._env._did_see_sim_exception or not np.isfinite(self._env.data.qpos).all():
            raise DivergedError(f"{self.task_name} diverged in the episode of seed {self._seed}")
        return float(reward), False, bool(info["success"])

    def observe(self) -> dict[str, Any]:
        hand, opening = self._seen[:3], np.clip(self._seen[3:4], 0, 1)
        state = np.concatenate((hand, 1 - opening)).astype(np.float32)
        return {STATE_KEY: state, **self._views.draw(self._env.model, self._env.data)}

    def expert_action(self) -> Float[np.ndarray, " 4"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the simulator will clip what is asked for
            theirs = np.clip(self._expert.get_action(self._seen.copy()), -1, 1)
        return np.array([*(theirs[:3] * MOST_M), (theirs[3] + 1) / 2])

    def snapshot(self) -> dict[str, np.ndarray]:
        return {
            "seed": np.array([STREAMS.index(self._stream), self._seed]),
            "physics": full_state(self._env.model, self._env.data),
            "seen": self._seen.copy(),
            **{f"env.{name}": np.array(np.nan if value is None else value) for name, value in self._numbers().items()},
        }

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        stream, seed = snapshot["seed"].tolist()
        if (STREAMS[stream], seed) != (self._stream, self._seed):
            self.reset(STREAMS[stream], seed)
        for name in self._numbers():
            setattr(self._env, name, _remembered(snapshot[f"env.{name}"]))
        put_full_state(self._env.model, self._env.data, snapshot["physics"])
        self._seen = snapshot["seen"].copy()

    def close(self) -> None:
        self._views.close()

    def _numbers(self) -> dict[str, Any]:
        """What the environment remembers beside its physics, or will, where that is None yet; not what it looks at the
        physics through.
        """
        return {name: value for name, value in vars(self._env).items() if value is None or _is_number(value)}


def _remembered(value: np.ndarray) -> Any:
    """What an environment remembers, of its photograph: an array, a number, or None for what is no number."""
    if value.ndim:
        return value.copy()
    return None if np.isnan(value) else value.item()


def _is_number(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return _is_its_own(value) and (bool(np.issubdtype(value.dtype, np.number)) or value.dtype == bool)
    return isinstance(value, bool | int | float | np.number | np.bool_)


def _is_its_own(value: np.ndarray) -> bool:
    """Whether an array's numbers are in memory of numpy's, not in that of the simulator."""
    while isinstance(value.base, np.ndarray):
        value = value.base
    return value.base is None


def _make(name: str) -> Any:
    """A Meta-World environment whose goals are drawn anew in each episode and known to its expert."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    env: Any = ALL_V3_ENVIRONMENTS[name]()
    env._partially_observable, env._freeze_rand_vec, env.seeded_rand_vec = False, False, True
    vars(env).pop("sawyer_observation_space", None)  # kept from when the goal was hidden
    env._set_task_called = True
    env._set_task_inner()
    return env


def _embodiment(seeing: Seeing) -> EmbodimentSpec:
    return EmbodimentSpec(
        name="metaworld-sawyer",
        control_rate_hz=RATE_HZ,
        state=(*position_dimensions(REACH_M), gripper_state()),
        action=(*delta_dimensions("d", "m", MOST_M), GRIPPER_COMMAND),
        cameras=seeing.cameras(CAMERAS),
    )

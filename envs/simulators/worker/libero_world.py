"""Tasks of LIBERO, played by its own protocol in its own Python.

The files of initial states are pickles (``.pruned_init``). LIBERO's own code loads them here, from the package that was
installed, and nothing of them but numbers leaves this process.
"""

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .rotations import rotation_vector_without_flip

CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}
"""Our names of LIBERO's cameras."""
SETTLE_STEPS = 10
SETTLE_ACTION = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
PROTOCOL_SEED = 7
"""Of NumPy's generator, from which LIBERO draws where fixtures stand, which no initial state holds."""
MOST_M, MOST_RAD = 0.05, 0.5
"""What LIBERO's controller makes of an action of 1."""
_STREAMS = ("demonstrate", "learn", "evaluate")
EVALUATE = "evaluate"


class LiberoWorld:
    """One world of task ``index`` of ``benchmark`` (as LIBERO counts and calls them)."""

    def __init__(
        self,
        benchmark: str,
        index: int,
        image_size_px: int = 256,
        depth: bool = False,
        render: bool = True,
        settle_steps: int = SETTLE_STEPS,
    ) -> None:
        suites, control_env = _libero()
        suite = suites.get_benchmark(benchmark)()
        task = suite.get_task(index)
        self._name, self.instruction = task.name, task.language
        self._side, self._depth, self._render = image_size_px, depth, render
        self._settle_steps = settle_steps
        self._states = np.asarray(suite.get_task_init_states(index))
        self._env = control_env(
            bddl_file_name=suite.get_task_bddl_file_path(index),
            use_camera_obs=False,
            has_renderer=False,
            has_offscreen_renderer=render,
            render_camera="agentview",
            ignore_done=True,
        )
        self.goal = self._env.language_instruction
        self._seen: Any = None
        self._keep_what_is_sampled()
        # Making a scene anew for each episode, as LIBERO does, takes seconds and changes nothing: see `reset`.
        self._env.env.hard_reset = False

    @property
    def about(self) -> dict[str, Any]:
        """How many initial states the task has, and what LIBERO calls it."""
        return {"init_states": len(self._states), "task": self._name}

    def reset(self, stream: str, seed: int) -> None:
        """Start an episode: of ``evaluate``, in initial state ``seed`` modulo their number; of others, in a drawn one.

        NumPy's generator is seeded for each episode, so that it depends on no other. The first of ``evaluate`` is that
        of LIBERO's protocol; there, where the fixtures of later ones stand depends on how many were played before.
        """
        np.random.seed(episode_seed(stream, seed))
        # All that a scene made anew forgets and one that is only reset does not: how far the fingers were told to go.
        for robot in self._env.robots:
            robot.gripper.current_action = np.zeros_like(robot.gripper.current_action)
        self._env.reset()
        if stream == EVALUATE:
            self._put(self._states[seed % len(self._states)])
        for _ in range(self._settle_steps):
            self._env.step(np.array(SETTLE_ACTION))

    def _put(self, state: np.ndarray) -> None:
        """Put the scene into an initial state; ``ValueError`` for one of another scene than this."""
        size = self._env.get_sim_state().shape
        if state.shape != size:
            raise ValueError(f"{self._name}: expected initial states of shape {size}, got {state.shape}: other assets?")
        self._env.set_init_state(state)

    def step(self, action: np.ndarray) -> tuple[float, bool, bool]:
        """One control step (20 Hz); an episode is over when it is solved."""
        _, reward, _, _ = self._env.step(to_libero(action))
        return float(reward), False, bool(self._env.check_success())

    def observe(self) -> dict[str, np.ndarray]:
        """State, pictures turned by half a turn, and how the cameras see and stand."""
        shown = {"observation.state": self._state()}
        for name, called in CAMERAS.items() if self._render else ():
            shown |= self._picture(name, called)
        return shown

    def close(self) -> None:
        """Free the simulator."""
        with contextlib.suppress(Exception):
            self._env.close()

    def _keep_what_is_sampled(self) -> None:
        """Have the scene copied when LIBERO's own observations are sampled: not at the end of a control step, but a
        physics step (2 ms) or so before, as often as :meth:`reset` updates them. Policies were trained on those.
        """
        import mujoco
        from robosuite.utils.observables import Observable, sensor

        @sensor(modality="scene")
        def scene(obs_cache: Any) -> np.ndarray:
            model, data = self._env.sim.model._model, self._env.sim.data._data
            self._seen = mujoco.MjData(model) if self._seen is None else self._seen
            mujoco.mj_copyData(self._seen, model, data)
            return np.zeros(1)

        observable = Observable(name="scene", sensor=scene, sampling_rate=self._env.env.control_freq)
        self._env.env.add_observable(observable)

    def _state(self) -> np.ndarray:
        """Position (m), rotation vector (rad) of the hand, and both fingers' positions (m): 8 numbers."""
        sampled = self._env.env._observables
        quaternion_xyzw = sampled["robot0_eef_quat"].obs
        position, fingers = sampled["robot0_eef_pos"].obs, sampled["robot0_gripper_qpos"].obs
        return np.concatenate([position, rotation_vector_without_flip(quaternion_xyzw), fingers]).astype(np.float32)

    def _picture(self, name: str, called: str) -> dict[str, np.ndarray]:
        sim, side = self._env.sim, self._side
        with self._as_sampled():
            drawn = sim.render(camera_name=called, width=side, height=side, depth=self._depth)
        rgb, depth = drawn if self._depth else (drawn, None)
        shown = {f"observation.images.{name}": np.ascontiguousarray(rgb[::-1, ::-1])}
        if depth is not None:
            shown[f"observation.depth.{name}"] = self._metres(np.ascontiguousarray(depth[::-1, ::-1]))
        camera = sim.model.camera_name2id(called)
        shown[f"observation.cameras.{name}.intrinsics"] = intrinsics(float(sim.model.cam_fovy[camera]), side)
        place = self._seen.cam_xpos[camera], self._seen.cam_xmat[camera].reshape(3, 3)
        shown[f"observation.cameras.{name}.T_world_cam"] = camera_pose(*place)
        return shown

    @contextlib.contextmanager
    def _as_sampled(self) -> Iterator[None]:
        """Inside, the simulator draws the scene as it was sampled."""
        wrapper = self._env.sim.data
        now, wrapper._data = wrapper._data, self._seen
        try:
            yield
        finally:
            wrapper._data = now

    def _metres(self, buffer: np.ndarray) -> np.ndarray:
        """OpenGL's depth (0 … 1) as distance along the optical axis; 0 where nothing was hit."""
        extent, visual = self._env.sim.model.stat.extent, self._env.sim.model.vis.map
        near, far = visual.znear * extent, visual.zfar * extent
        distance = near / (1.0 - buffer.astype(np.float64) * (1.0 - near / far))
        return np.where(buffer >= 1.0, 0.0, distance).astype(np.float32)


def episode_seed(stream: str, seed: int) -> int:
    """What NumPy's generator is seeded with for an episode."""
    if stream == EVALUATE:
        return (PROTOCOL_SEED + seed) % 2**32
    return zlib.crc32(f"{_STREAMS.index(stream)} {seed}".encode())


def to_libero(action: np.ndarray) -> np.ndarray:
    """Our action (m, rad, gripper 0 open … 1 closed) as LIBERO's (−1 … 1, gripper −1 open … +1 closed)."""
    return np.clip(np.concatenate([action[:3] / MOST_M, action[3:6] / MOST_RAD, 2.0 * action[6:] - 1.0]), -1.0, 1.0)


def intrinsics(fovy_deg: float, side_px: int) -> np.ndarray:
    """K of a square picture as LIBERO's users see it.

    MuJoCo hands pictures out bottom up, so half a turn leaves them upright and mirrored: the first row is negative.
    """
    focal_px = 0.5 * side_px / np.tan(np.deg2rad(fovy_deg / 2))
    return np.array([[-focal_px, 0, side_px / 2], [0, focal_px, side_px / 2], [0, 0, 1]], np.float32)


def camera_pose(position: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """``T_world_cam`` in the OpenCV frame of a MuJoCo camera, which looks along −z with y up."""
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3], pose[:3, 3] = axes * np.array([1.0, -1.0, -1.0]), position
    return pose


def _libero() -> tuple[Any, Any]:
    """LIBERO's benchmarks and environment, which look for assets where its config says."""
    config = Path(os.environ["LIBERO_CONFIG_PATH"]) / "config.yaml"
    if not config.is_file():  # LIBERO would ask on the terminal
        raise FileNotFoundError(f"{config} is missing: vla suite install libero writes it")
    import libero.libero as package

    # Its own look-up heeds a folder beside its code or downloads, but not what its config says.
    package._assets_path_cache = package.get_libero_path("assets")
    from libero.libero import benchmark
    from libero.libero.envs.env_wrapper import ControlEnv

    return benchmark, ControlEnv


def make_world(**settings: Any) -> LiberoWorld:
    """A world, for a worker."""
    return LiberoWorld(**settings)

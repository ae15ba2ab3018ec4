"""The gymnasium face: ``import envs.gym``, then ``gymnasium.make("vla/Place-v0")`` or ``gymnasium.make_vec``.

Importing this module registers every task as ``vla/<Task>-v0`` (``gymnasium.make("envs.gym:vla/Place-v0")`` imports it
by itself). Thin wrappers turn the torch vector environment into numpy spaces; nothing here knows a task.
"""

from numbers import Integral
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from envs.specs import STATE_KEY, TASK_KEY, EmbodimentSpec, depth_key, extrinsics_key, image_key, intrinsics_key
from envs.tasks import TASKS
from envs.vector import TaskEnv

MAX_INSTRUCTION_CHARACTERS = 200
_CHARSET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ,.'-"


def _register() -> None:
    for name in TASKS:
        gymnasium.register(
            id=f"vla/{name.capitalize()}-v0",
            entry_point="envs.gym:SingleEnv",
            vector_entry_point="envs.gym:VectorTaskEnv",
            kwargs={"task": name},
        )


def observation_space(embodiment: EmbodimentSpec) -> spaces.Dict:
    """The space of one world's observation, by the keys of ``envs.specs``."""
    low = np.array([dim.low for dim in embodiment.state], np.float32)
    high = np.array([dim.high for dim in embodiment.state], np.float32)
    parts: dict[str, spaces.Space[Any]] = {
        STATE_KEY: spaces.Box(low, high, dtype=np.float32),
        TASK_KEY: spaces.Text(MAX_INSTRUCTION_CHARACTERS, charset=_CHARSET),
    }
    for camera in embodiment.cameras:
        size = (camera.height_px, camera.width_px)
        parts[image_key(camera.name)] = spaces.Box(0, 255, (*size, 3), np.uint8)
        parts[intrinsics_key(camera.name)] = spaces.Box(-np.inf, np.inf, (3, 3), np.float32)
        parts[extrinsics_key(camera.name)] = spaces.Box(-np.inf, np.inf, (4, 4), np.float32)
        if camera.depth:
            parts[depth_key(camera.name)] = spaces.Box(0, np.inf, size, np.float32)
    return spaces.Dict(parts)


def action_space(embodiment: EmbodimentSpec) -> spaces.Box:
    """Actions in the embodiment's own units and bounds."""
    low, high = np.array(embodiment.action_low, np.float32), np.array(embodiment.action_high, np.float32)
    return spaces.Box(low, high, dtype=np.float32)


class VectorTaskEnv(gymnasium.vector.VectorEnv):
    """``num_envs`` worlds behind gymnasium's vector interface, on numpy arrays.

    Autoreset mode is ``NEXT_STEP``: the step after an episode's end ignores that world's action and returns the first
    observation of its next episode. Episode k of world i, under ``reset(seed=s)``, has seed ``s + i + k·num_envs``.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, task: str, num_envs: int = 1, render_mode: str | None = None, **settings: Any) -> None:
        _check_render_mode(render_mode, settings)
        self._env = TaskEnv(task, num_envs, **settings)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.metadata = {**type(self).metadata, "render_fps": self._env.embodiment.control_rate_hz}
        self._space = self.single_observation_space = observation_space(self._env.embodiment)
        self.single_action_space = action_space(self._env.embodiment)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seeds = torch.arange(num_envs) + int(np.random.SeedSequence().generate_state(1)[0])
        self._done = torch.zeros(num_envs, dtype=torch.bool)
        self._last: dict[str, Any] = {}

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start all worlds; an int seed gives world i ``seed + i``, None goes on with the seeds after the last."""
        if options:
            raise ValueError(f"reset takes no options, got {sorted(options)}")
        if seed is None:
            seeds = self._seeds + self.num_envs
        else:
            seeds = (
                torch.as_tensor(seed) + torch.arange(self.num_envs)
                if isinstance(seed, Integral)
                else torch.tensor(seed)
            )
        self._done = torch.zeros(self.num_envs, dtype=torch.bool)
        observation = self._env.reset(seeds)
        self._seeds = seeds
        return self._numpy(observation), {}

    def step(self, actions: Any) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step of every running world; finished ones start their next episode instead."""
        starting = self._done
        transition = self._env.step(torch.as_tensor(np.asarray(actions), dtype=torch.float32))
        observation = transition.observation
        if bool(starting.any()):
            self._seeds = torch.where(starting, self._seeds + self.num_envs, self._seeds)
            observation = self._env.reset(self._seeds, starting)
        terminated, truncated = transition.terminated & ~starting, transition.truncated & ~starting
        self._done = terminated | truncated
        info = {"success": (transition.success & ~starting).numpy()}
        return self._numpy(observation), transition.reward.numpy(), terminated.numpy(), truncated.numpy(), info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The first camera's picture of every world, as last observed."""
        if self.render_mode is None:
            return None
        if not self._last:
            raise RuntimeError("call reset before render")
        return tuple(self._last[image_key(self._env.embodiment.camera_names[0])])

    def close_extras(self, **kwargs: Any) -> None:
        """Free the simulator."""
        self._env.close()

    def _numpy(self, observation: dict[str, Any]) -> dict[str, Any]:
        space = self._space
        arrays = {
            key: tuple(value) if key == TASK_KEY else value.numpy().astype(space[key].dtype, copy=True)
            for key, value in observation.items()
        }
        self._last = arrays
        return {key: arrays[key] for key in space.spaces}


class SingleEnv(gymnasium.Env):
    """One world behind gymnasium's single-environment interface."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}

    def __init__(self, task: str, render_mode: str | None = None, **settings: Any) -> None:
        _check_render_mode(render_mode, settings)
        self.render_mode = render_mode
        self._env = TaskEnv(task, 1, **settings)
        self.observation_space = observation_space(self._env.embodiment)
        self.action_space = action_space(self._env.embodiment)
        self.metadata = {**type(self).metadata, "render_fps": self._env.embodiment.control_rate_hz}
        self._last: dict[str, Any] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode; without a seed one is drawn from ``np_random``."""
        if options:
            raise ValueError(f"reset takes no options, got {sorted(options)}")
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**31)) if seed is None else seed
        return self._first(self._env.reset([drawn])), {"seed": drawn}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One control step."""
        transition = self._env.step(torch.as_tensor(np.asarray(action), dtype=torch.float32)[None])
        return (
            self._first(transition.observation),
            float(transition.reward[0]),
            bool(transition.terminated[0]),
            bool(transition.truncated[0]),
            {"success": bool(transition.success[0])},
        )

    def render(self) -> np.ndarray | None:
        """The first camera's picture, as last observed."""
        if self.render_mode is None:
            return None
        if not self._last:
            raise RuntimeError("call reset before render")
        return self._last[image_key(self._env.embodiment.camera_names[0])].copy()

    def close(self) -> None:
        """Free the simulator."""
        self._env.close()

    def _first(self, observation: dict[str, Any]) -> dict[str, Any]:
        space = self.observation_space
        assert isinstance(space, spaces.Dict)
        self._last = {
            key: observation[key][0] if key == TASK_KEY else observation[key][0].numpy().astype(space[key].dtype)
            for key in space.spaces
        }
        return dict(self._last)


def _check_render_mode(render_mode: str | None, settings: dict[str, Any]) -> None:
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
    if render_mode is not None and not settings.get("render", True):
        raise ValueError("render_mode 'rgb_array' needs pictures, but the environment was made with render=False")


_register()

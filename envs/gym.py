"""The gymnasium face: ``import envs.gym``, then ``gymnasium.make("vla/Place-v0")`` or ``gymnasium.make_vec``.

Importing this module registers every task under its :func:`env_id`; ``gymnasium.make("envs.gym:vla/Place-v0")`` imports
it by itself. Thin wrappers turn the torch environment into numpy spaces; nothing here knows a task. Settings are
those of :class:`envs.vector.TaskEnv`, such as ``engine="warp"``; episodes are those of the stream ``learn``, unless
they say otherwise. One call is one control step.
"""

from numbers import Integral
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from envs.autoreset import FINAL_OBSERVATION, SUCCESS, AutoresetEnv
from envs.specs import (
    COMMAND_DIM,
    COMMAND_KEY,
    ENVIRONMENT_STATE_KEY,
    STATE_KEY,
    TASK_KEY,
    EmbodimentSpec,
    depth_key,
    extrinsics_key,
    image_key,
    intrinsics_key,
    segmentation_key,
)
from envs.suites import SUITES
from envs.tasks import TASKS
from envs.vector import TaskEnv

MAX_INSTRUCTION_CHARACTERS = 400
_CHARSET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ,.;:!?'-"
_RESET_MASK = "reset_mask"


def env_id(task: str) -> str:
    """The gymnasium id of a task: ``vla/Place-v0``, or ``vla/tabletop-goal.bin-red-v0`` for one of a suite."""
    return f"vla/{task.replace('/', '.') if '/' in task else task[0].upper() + task[1:]}-v0"


def _register() -> None:
    for name in (*TASKS, *(task for suite in SUITES.values() for task in suite.task_names)):
        gymnasium.register(
            id=env_id(name),
            entry_point="envs.gym:SingleEnv",
            vector_entry_point="envs.gym:VectorTaskEnv",
            kwargs={"task": name},
        )


def observation_space(embodiment: EmbodimentSpec, privileged_dim: int = 0, language: bool = True) -> spaces.Dict:
    """The space of one world's observation, by the keys of ``envs.specs``."""
    parts: dict[str, spaces.Space[Any]] = {
        STATE_KEY: _unbounded(embodiment.state_dim),
        COMMAND_KEY: _unbounded(COMMAND_DIM),
    }
    if language:
        parts[TASK_KEY] = spaces.Text(MAX_INSTRUCTION_CHARACTERS, charset=_CHARSET)
    if privileged_dim:
        parts[ENVIRONMENT_STATE_KEY] = _unbounded(privileged_dim)
    for camera in embodiment.cameras:
        size = (camera.height_px, camera.width_px)
        parts[image_key(camera.name)] = spaces.Box(0, 255, (*size, 3), np.uint8)
        parts[intrinsics_key(camera.name)] = _unbounded(3, 3)
        parts[extrinsics_key(camera.name)] = _unbounded(4, 4)
        if camera.depth:
            parts[depth_key(camera.name)] = spaces.Box(0, np.inf, size, np.float32)
        if camera.segmentation:
            parts[segmentation_key(camera.name)] = spaces.Box(-1, np.iinfo(np.int32).max, size, np.int32)
    return spaces.Dict(parts)


def action_space(embodiment: EmbodimentSpec) -> spaces.Box:
    """Actions in the embodiment's own units and bounds."""
    low, high = np.array(embodiment.action_low, np.float32), np.array(embodiment.action_high, np.float32)
    return spaces.Box(low, high, dtype=np.float32)


def _unbounded(*shape: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, shape, np.float32)


class VectorTaskEnv(gymnasium.vector.VectorEnv):
    """``num_envs`` worlds behind gymnasium's vector interface, on numpy arrays.

    ``autoreset_mode`` is one of gymnasium's three, ``NEXT_STEP`` by default; :class:`envs.autoreset.AutoresetEnv` says
    what each does and which seeds follow each other. With ``DISABLED``, ``reset(options={"reset_mask": mask})`` starts
    the finished worlds again.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        **settings: Any,
    ) -> None:
        _check_render_mode(render_mode, settings)
        core = TaskEnv(task, num_envs, **{"stream": "learn", **settings})
        self._env = AutoresetEnv(core, autoreset_mode)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.metadata = {
            **type(self).metadata,
            "render_fps": core.embodiment.control_rate_hz,
            "autoreset_mode": self._env.mode,
        }
        self.single_observation_space = _space_of(core, settings)
        self.single_action_space = action_space(core.embodiment)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seeded = False
        self._last: dict[str, Any] = {}

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start all worlds, or those of ``options["reset_mask"]``.

        An int seed gives world i ``seed + i``; None goes on with the seeds after the last (drawn by chance at first).
        """
        unknown = set(options or {}) - {_RESET_MASK}
        if unknown:
            raise ValueError(f"reset takes the option {_RESET_MASK!r} only, got {sorted(unknown)}")
        mask = None if not options else torch.as_tensor(np.asarray(options[_RESET_MASK], dtype=bool))
        if seed is None and not self._seeded:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        self._seeded = True
        observation, _ = self._env.reset(int(seed) if isinstance(seed, Integral) else seed, mask)
        return self._numpy(observation), {}

    def step(self, actions: Any) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step of every running world."""
        moved = self._env.step(torch.as_tensor(np.asarray(actions), dtype=torch.float32))
        observation, reward, terminated, truncated, facts = moved
        info: dict[str, Any] = {SUCCESS: facts[SUCCESS].cpu().numpy()}
        if FINAL_OBSERVATION in facts:
            ended = facts[f"_{FINAL_OBSERVATION}"].cpu().numpy()
            final = _arrays(facts[FINAL_OBSERVATION])
            info[FINAL_OBSERVATION] = np.full(self.num_envs, None, dtype=object)
            for world in ended.nonzero()[0]:
                info[FINAL_OBSERVATION][world] = {key: value[world] for key, value in final.items()}
            info[f"_{FINAL_OBSERVATION}"] = ended
        flags = (terminated.cpu().numpy(), truncated.cpu().numpy())
        return self._numpy(observation), reward.cpu().numpy(), *flags, info

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
        self._last = _arrays(observation)
        return self._last


class SingleEnv(gymnasium.Env):
    """One world behind gymnasium's single-environment interface."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}

    def __init__(self, task: str, render_mode: str | None = None, **settings: Any) -> None:
        _check_render_mode(render_mode, settings)
        self.render_mode = render_mode
        self._env = TaskEnv(task, 1, **{"stream": "learn", **settings})
        self.observation_space = _space_of(self._env, settings)
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
            {SUCCESS: bool(transition.success[0])},
        )

    def render(self) -> np.ndarray | None:
        """The first camera's picture, as last observed."""
        if self.render_mode is None:
            return None
        if not self._last:
            raise RuntimeError("call reset before render")
        return self._last[image_key(self._env.embodiment.camera_names[0])]

    def close(self) -> None:
        """Free the simulator."""
        self._env.close()

    def _first(self, observation: dict[str, Any]) -> dict[str, Any]:
        self._last = {key: value[0] for key, value in _arrays(observation).items()}
        return self._last


def _space_of(env: TaskEnv, settings: dict[str, Any]) -> spaces.Dict:
    return observation_space(env.embodiment, env.privileged_dim, settings.get("language", True))


def _arrays(observation: dict[str, Any]) -> dict[str, Any]:
    """The observation in numpy; on the CPU its arrays are the tensors' own memory, which is the caller's."""
    return {key: value if key == TASK_KEY else value.cpu().numpy() for key, value in observation.items()}


def _check_render_mode(render_mode: str | None, settings: dict[str, Any]) -> None:
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
    if render_mode is not None and not settings.get("render", True):
        raise ValueError("render_mode 'rgb_array' needs pictures, but the environment was made with render=False")


_register()

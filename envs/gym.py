"""The gymnasium face: ``import envs.gym``, then ``gymnasium.make("vla/Place-v0")`` or ``gymnasium.make_vec``.

Importing this module registers every task under its :func:`env_id`; ``gymnasium.make("envs.gym:vla/Place-v0")`` imports
it by itself. Thin wrappers turn the torch environment into numpy spaces; nothing here knows a task. Settings are
those of :class:`envs.vector.TaskEnv`, such as ``engine="warp"``; episodes are those of the stream ``learn``, unless
they say otherwise. One call is one control step.

``max_episode_steps`` is the task's own unless it is given, and −1 is none at all; it means the same to ``make``, where
gymnasium's ``TimeLimit`` keeps it, and to ``make_vec``. An episode that succeeds in its last step is terminated; a
``TimeLimit`` calls it truncated as well.
"""

from numbers import Integral
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool

from envs.autoreset import FINAL_OBSERVATION, SUCCESS, AutoresetEnv
from envs.frames import Frames
from envs.spaces import action_space, observation_space
from envs.specs import TASK_KEY
from envs.suites import SUITES, find_task
from envs.tasks import TASKS
from envs.vector import TaskEnv

_RESET_MASK = "reset_mask"
_WITHOUT_LIMIT = -1
_NEVER_STEPS = 2**62


def env_id(task: str) -> str:
    """The gymnasium id of a task: ``vla/Place-v0``, or ``vla/tabletop-goal.bin-red-v0`` for one of a suite."""
    return f"vla/{task.replace('/', '.') if '/' in task else task[0].upper() + task[1:]}-v0"


def _register() -> None:
    for name in (*TASKS, *(task for suite in SUITES.values() for task in suite.task_names)):
        gymnasium.register(
            id=env_id(name),
            entry_point="envs.gym:SingleEnv",
            vector_entry_point="envs.gym:VectorTaskEnv",
            max_episode_steps=find_task(name).max_episode_steps,
            kwargs={"task": name},
        )


class VectorTaskEnv(gymnasium.vector.VectorEnv):
    """``num_envs`` worlds behind gymnasium's vector interface, on numpy arrays.

    ``autoreset_mode`` is one of gymnasium's three, ``NEXT_STEP`` by default; :class:`envs.autoreset.AutoresetEnv` says
    what each does and which seeds follow each other. With ``DISABLED``, ``reset(options={"reset_mask": mask})`` starts
    the finished worlds again. Without ``max_episode_steps`` each episode may take as long as its task gives it.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        **settings: Any,
    ) -> None:
        _check_render_mode(render_mode, settings)
        limit_steps = _NEVER_STEPS if max_episode_steps == _WITHOUT_LIMIT else max_episode_steps
        core = TaskEnv(task, num_envs, max_episode_steps=limit_steps, **{"stream": "learn", **settings})
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
        self._frames = Frames(core, render_mode)

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start all worlds, or those of ``options["reset_mask"]``.

        An int seed gives world i ``seed + i``; None goes on with the seeds after the last (drawn by chance at first).
        ``ValueError`` for other options, for what are no seeds and for a mask that does not fit.
        """
        unknown = set(options or {}) - {_RESET_MASK}
        if unknown:
            raise ValueError(f"reset takes the option {_RESET_MASK!r} only, got {sorted(unknown)}")
        mask = _mask(options[_RESET_MASK]) if options else None
        if seed is None and not self._seeded:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        observation, _ = self._env.reset(seed, mask)
        self._seeded = True
        return self._shown(observation), {}

    def step(self, actions: Any) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step of every running world."""
        moved = self._env.step(torch.as_tensor(np.asarray(actions, np.float32)))
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
        return self._shown(observation), reward.cpu().numpy(), *flags, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The first camera's picture of every world, as last observed."""
        frames = self._frames.latest()
        return None if frames is None else tuple(frames)

    def close_extras(self, **kwargs: Any) -> None:
        """Free the simulator."""
        self._env.close()
        self._frames.close()

    def _shown(self, observation: dict[str, Any]) -> dict[str, Any]:
        self._frames.keep(observation)
        return _arrays(observation)


class SingleEnv(gymnasium.Env):
    """One world behind gymnasium's single-environment interface; an episode lasts until it succeeds.

    ``gymnasium.make`` puts a ``TimeLimit`` around it.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}

    def __init__(self, task: str, render_mode: str | None = None, **settings: Any) -> None:
        _check_render_mode(render_mode, settings)
        if "max_episode_steps" in settings:
            raise ValueError("a single environment has no max_episode_steps; gymnasium.make or a TimeLimit adds it")
        self.render_mode = render_mode
        self._env = TaskEnv(task, 1, max_episode_steps=_NEVER_STEPS, **{"stream": "learn", **settings})
        self.observation_space = _space_of(self._env, settings)
        self.action_space = action_space(self._env.embodiment)
        self.metadata = {**type(self).metadata, "render_fps": self._env.embodiment.control_rate_hz}
        self._frames = Frames(self._env, render_mode)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode, of world 0 under the same seed; without a seed one is drawn from ``np_random``."""
        if options:
            raise ValueError(f"reset takes no options, got {sorted(options)}")
        seed = int(seed) if isinstance(seed, Integral) else seed
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**31)) if seed is None else seed
        return self._shown(self._env.reset([drawn])), {"seed": drawn}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One control step."""
        transition = self._env.step(torch.as_tensor(np.asarray(action, np.float32))[None])
        return (
            self._shown(transition.observation),
            float(transition.reward[0]),
            bool(transition.terminated[0]),
            bool(transition.truncated[0]),
            {SUCCESS: bool(transition.success[0])},
        )

    def render(self) -> np.ndarray | None:
        """The first camera's picture, as last observed."""
        frames = self._frames.latest()
        return None if frames is None else frames[0]

    def close(self) -> None:
        """Free the simulator."""
        self._env.close()
        self._frames.close()

    def _shown(self, observation: dict[str, Any]) -> dict[str, Any]:
        self._frames.keep(observation)
        return {key: value[0] for key, value in _arrays(observation).items()}


def _space_of(env: TaskEnv, settings: dict[str, Any]) -> spaces.Dict:
    return observation_space(env.embodiment, env.privileged_dim, settings.get("language", True))


def _arrays(observation: dict[str, Any]) -> dict[str, Any]:
    """The observation in numpy; on the CPU its arrays are the tensors' own memory, which is the caller's."""
    return {key: value if key == TASK_KEY else value.cpu().numpy() for key, value in observation.items()}


def _mask(given: Any) -> Bool[torch.Tensor, " n"]:
    mask = np.asarray(given)
    if mask.dtype != np.bool_:
        raise ValueError(f"expected a bool for each world as {_RESET_MASK!r}, got {given!r}")
    return torch.from_numpy(mask)


def _check_render_mode(render_mode: str | None, settings: dict[str, Any]) -> None:
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
    if render_mode is not None and not settings.get("render", True):
        raise ValueError("render_mode 'rgb_array' needs pictures, but the environment was made with render=False")


_register()

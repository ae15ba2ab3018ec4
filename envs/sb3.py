"""Stable-Baselines3's ``VecEnv`` over a task's worlds (extra ``sb3``), for its algorithms as baselines and oracles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from jaxtyping import Float

from envs.autoreset import FINAL_OBSERVATION, SUCCESS, AutoresetEnv
from envs.frames import Frames
from envs.spaces import action_space, observation_space
from envs.specs import COMMAND_KEY, ENVIRONMENT_STATE_KEY, STATE_KEY, Stream, image_key
from envs.vector import TaskEnv

try:
    from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvStepReturn
except ImportError as error:
    raise ModuleNotFoundError("stable-baselines3 is not installed: pip install 'vla-stack[sb3]'") from error


class StableBaselinesEnv(VecEnv):
    """A :class:`TaskEnv` for stable-baselines3; actions are scaled to −1 … 1.

    Observations are a dict of the state, the command, the privileged state (if the environment has it) and the images,
    by their keys with ``_`` for every dot (torch's modules allow none). Its policies cannot read instructions, and
    camera geometry tells them nothing: both stay behind. Finished worlds start again in the same step; their last
    observation is ``info["terminal_observation"]``. ``render`` tiles the first camera's pictures of all worlds, as last
    observed; its mode is rgb_array wherever there are cameras.

    Algorithms learn from the episodes of the stream "learn"; an environment of another ``stream``, such as "evaluate",
    is refused (``ValueError``) unless that is named here as well.
    """

    def __init__(self, env: TaskEnv, *, seed: int = 0, stream: Stream = "learn") -> None:
        if env.stream != stream:
            raise ValueError(f"expected an environment of the stream {stream!r}, got one of {env.stream!r}")
        self._env = AutoresetEnv(env, AutoresetMode.SAME_STEP)
        keys = [STATE_KEY, COMMAND_KEY, *(image_key(name) for name in env.embodiment.camera_names)]
        if env.privileged_dim:
            keys.append(ENVIRONMENT_STATE_KEY)
        self._keys = {key.replace(".", "_"): key for key in keys}
        whole = observation_space(env.embodiment, env.privileged_dim)
        bounds = action_space(env.embodiment)
        self._middle = torch.as_tensor((bounds.high + bounds.low) / 2, device=env.device)
        self._half = torch.as_tensor((bounds.high - bounds.low) / 2, device=env.device)
        self._seed: int | None = seed
        self._actions = torch.zeros(env.num_envs, *bounds.shape, device=env.device)
        self._frames = Frames(env, self._mode)
        super().__init__(
            env.num_envs,
            spaces.Dict({name: whole[key] for name, key in self._keys.items()}),
            spaces.Box(-1.0, 1.0, bounds.shape, np.float32),
        )
        self.metadata: dict[str, Any] = {**self.metadata, "render_fps": env.embodiment.control_rate_hz}

    def reset(self) -> dict[str, np.ndarray]:
        """Start all worlds; episodes go on with new seeds from one reset to the next."""
        observation, _ = self._env.reset(self._seed)
        self._seed = None
        self._frames.keep(observation)
        return self.seen(observation)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """World i starts from ``seed + i`` at the next reset."""
        self._seed = seed
        return [None if seed is None else seed + i for i in range(self.num_envs)]

    def step_async(self, actions: np.ndarray) -> None:
        """Take actions in −1 … 1."""
        self._actions = self.unscaled(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Observation, reward, done and one info dict per world."""
        observation, reward, _, truncated, facts = self._env.step(self._actions)
        self._frames.keep(observation)
        done = np.zeros(self.num_envs, bool)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if FINAL_OBSERVATION in facts:
            flags = torch.stack((facts[f"_{FINAL_OBSERVATION}"], truncated, facts[SUCCESS]))
            done, cut, success = flags.cpu().numpy()
            final = self.seen(facts[FINAL_OBSERVATION])
            for world in done.nonzero()[0]:
                infos[world] = {
                    "terminal_observation": {key: value[world] for key, value in final.items()},
                    "TimeLimit.truncated": bool(cut[world]),
                    "is_success": bool(success[world]),
                }
        return self.seen(observation), reward.cpu().numpy(), done, infos

    def unscaled(self, actions: np.ndarray) -> Float[torch.Tensor, "n a"]:
        """Actions of −1 … 1 in the environment's units; what lies beyond is cut off."""
        scaled = torch.as_tensor(actions, dtype=torch.float32, device=self._half.device).clamp(-1, 1)
        return self._middle + self._half * scaled

    def seen(self, observation: dict[str, Any]) -> dict[str, np.ndarray]:
        """What an algorithm sees of an environment's observation."""
        return {name: observation[key].cpu().numpy() for name, key in self._keys.items()}

    def close(self) -> None:
        """Free the simulator."""
        self._env.close()
        self._frames.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """The first camera's picture of every world, uint8 ``(h, w, 3)``; None where there are no cameras."""
        frames = self._frames.latest()
        return [None] * self.num_envs if frames is None else list(frames)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute of the environment, once for each world asked for."""
        value = self._mode if attr_name == "render_mode" else getattr(self._env.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not possible: all worlds are one object."""
        raise NotImplementedError("the worlds share one environment; set attributes on it before wrapping it")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Not possible: all worlds are one object."""
        raise NotImplementedError("the worlds share one environment; call its methods before wrapping it")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No world has a gymnasium wrapper."""
        return [False for _ in self._get_indices(indices)]

    @property
    def _mode(self) -> str | None:
        return "rgb_array" if self._env.env.embodiment.camera_names else None

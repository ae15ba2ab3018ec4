"""Episode after episode on torch tensors: the vector environment that online learners step.

Everything stays on the environment's device; nothing is copied to the host but one flag per step that says whether
any episode has ended.
"""

from typing import Any

import torch
from gymnasium.vector import AutoresetMode
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.vector import TaskEnv

FINAL_OBSERVATION = "final_obs"
SUCCESS = "success"


class AutoresetEnv:
    """A :class:`TaskEnv` whose worlds start their next episode by themselves.

    ``SAME_STEP``: the step that ends an episode returns the first observation of the next one, and the last one of the
    old episode as ``info["final_obs"]`` (a whole batch, of which the worlds of ``info["_final_obs"]`` count).
    ``NEXT_STEP``: it returns the last observation; the next step ignores that world's action, pays nothing and returns
    the first observation. ``DISABLED``: worlds wait for :meth:`reset` with a mask.

    Episode k of world i, under ``reset(seed=s)``, has seed ``s + i + k·num_envs``.
    """

    def __init__(self, env: TaskEnv, mode: AutoresetMode = AutoresetMode.SAME_STEP) -> None:
        self.env, self.mode = env, AutoresetMode(mode)
        self.num_envs, self.device, self.embodiment = env.num_envs, env.device, env.embodiment
        self._seeds = torch.arange(env.num_envs, device=env.device)
        self._done = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
        self._started = False

    def reset(
        self, seed: int | list[int] | Int[Tensor, " n"] | None = None, mask: Bool[Tensor, " n"] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start the worlds of ``mask`` (all when None).

        An int seed gives world i ``seed + i``; None goes on with the seeds after each world's last.
        """
        chosen = torch.ones_like(self._done) if mask is None else torch.as_tensor(mask, device=self.device)
        if seed is None:
            seeds = self._seeds + (self.num_envs if self._started else 0)
        elif isinstance(seed, int):
            seeds = seed + torch.arange(self.num_envs, device=self.device)
        else:
            seeds = torch.as_tensor(seed, dtype=torch.long, device=self.device)
        observation = self.env.reset(seeds, chosen)
        self._seeds = torch.where(chosen, seeds, self._seeds)
        self._done = self._done & ~chosen
        self._started = True
        return observation, {}

    def step(
        self, actions: Float[Tensor, "n a"]
    ) -> tuple[dict[str, Any], Float[Tensor, " n"], Bool[Tensor, " n"], Bool[Tensor, " n"], dict[str, Any]]:
        """Observation, reward, terminated, truncated, info; ``info["success"]`` is bool per world."""
        starting = self._done
        moved = self.env.step(actions)
        observation, info = moved.observation, {}
        terminated, truncated = moved.terminated & ~starting, moved.truncated & ~starting
        success = moved.success & ~starting
        done = terminated | truncated
        if self.mode is AutoresetMode.DISABLED:
            self._done = starting | done
        elif self.mode is AutoresetMode.NEXT_STEP:
            if bool(starting.any()):
                observation, _ = self.reset(mask=starting)
            self._done = done
        elif bool(done.any()):
            info = {FINAL_OBSERVATION: observation, f"_{FINAL_OBSERVATION}": done}
            observation, _ = self.reset(mask=done)
        return observation, moved.reward, terminated, truncated, {SUCCESS: success, **info}

    def close(self) -> None:
        """Free the simulator; safe to call twice."""
        self.env.close()

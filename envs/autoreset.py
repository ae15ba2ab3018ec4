"""Episode after episode on torch tensors: what online learners step, over any vector environment.

Everything stays on the environment's device; the host waits for it once per call, to learn whose episode has ended, and
again where an instruction is written for an episode that starts.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.specs import Snapshot, SnapshotEnv, VectorEnv

FINAL_OBSERVATION = "final_obs"
SUCCESS = "success"
REWARDS, STEPS = "rewards", "steps"


class AutoresetState(NamedTuple):
    """Where a run of episodes stands: the worlds, and each one's seed and whether it waits for its next episode."""

    worlds: Snapshot
    seeds: Int[Tensor, " n"]
    waiting: Bool[Tensor, " n"]


class AutoresetEnv:
    """A :class:`VectorEnv` whose worlds start their next episode by themselves.

    ``SAME_STEP``: the call that ends an episode returns the first observation of the next one, and the last one of the
    old episode as ``info["final_obs"]`` (a whole batch, of which the worlds of ``info["_final_obs"]`` count).
    ``NEXT_STEP``: it returns the last observation; the next call ignores that world's action, pays nothing and returns
    the first observation. ``DISABLED``: worlds wait for :meth:`reset` with a mask.

    Episode k of world i, under ``reset(seed=s)``, has seed ``s + i + k·num_envs`` of the environment's stream.
    """

    def __init__(self, env: VectorEnv, mode: AutoresetMode = AutoresetMode.SAME_STEP) -> None:
        self.env, self.mode = env, AutoresetMode(mode)
        self.num_envs, self.device, self.embodiment = env.num_envs, env.device, env.embodiment
        # On the host, where seeds and masks are read.
        self._seeds = torch.arange(env.num_envs)
        self._waiting = torch.zeros(env.num_envs, dtype=torch.bool)
        self._started = False

    def reset(
        self, seed: int | Sequence[int] | Int[Tensor, " n"] | None = None, mask: Bool[Tensor, " n"] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start the worlds of ``mask`` (all when None); ``seed`` and ``mask`` are best on the host.

        An int seed gives world i ``seed + i``; None goes on with the seeds after each world's last. ``ValueError`` for
        what are no seeds.
        """
        chosen = torch.ones_like(self._waiting) if mask is None else torch.as_tensor(mask)
        if seed is None:
            seeds = self._seeds + (self.num_envs if self._started else 0)
        else:
            seeds = seed.cpu() if isinstance(seed, Tensor) else _listed(seed, self.num_envs)
        observation = self.env.reset(seeds, chosen)
        chosen = chosen.cpu()
        self._seeds = torch.where(chosen, torch.as_tensor(seeds, dtype=torch.long), self._seeds)
        self._waiting = self._waiting & ~chosen
        self._started = True
        return observation, {}

    def step(
        self, actions: Float[Tensor, "n a"]
    ) -> tuple[dict[str, Any], Float[Tensor, " n"], Bool[Tensor, " n"], Bool[Tensor, " n"], dict[str, Any]]:
        """Observation, reward, terminated, truncated, info; ``info["success"]`` is bool per world."""
        return self.step_chunk(torch.as_tensor(actions)[:, None])

    def step_chunk(
        self, actions: Float[Tensor, "n h a"]
    ) -> tuple[dict[str, Any], Float[Tensor, " n"], Bool[Tensor, " n"], Bool[Tensor, " n"], dict[str, Any]]:
        """Up to h control steps. ``info`` also has ``rewards`` per step ``(n, h)`` and the ``steps`` that were taken.

        A world whose episode ends inside the chunk takes no more of its actions, in whatever mode.
        """
        starting = self._waiting
        moved = self.env.step_chunk(actions)
        ended = torch.zeros_like(starting)
        if moved.ended:
            ended[moved.ended] = True
        observation = moved.observation
        before = starting.to(self.device, non_blocking=True)
        info = {SUCCESS: moved.success & ~before, REWARDS: moved.rewards, STEPS: moved.steps}
        if self.mode is AutoresetMode.DISABLED:
            self._waiting = starting | ended
        elif self.mode is AutoresetMode.NEXT_STEP:
            if starting.any():
                observation, _ = self.reset(mask=starting)
            self._waiting = ended
        elif moved.ended:
            info |= {FINAL_OBSERVATION: observation, f"_{FINAL_OBSERVATION}": ended.to(self.device, non_blocking=True)}
            observation, _ = self.reset(mask=ended)
        return observation, moved.reward, moved.terminated & ~before, moved.truncated & ~before, info

    def snapshot(self) -> AutoresetState:
        """All worlds as they are now, and which episodes come next; the environment must be a ``SnapshotEnv``."""
        return AutoresetState(self._photographer().snapshot(), self._seeds.clone(), self._waiting.clone())

    def restore(self, state: AutoresetState) -> Mapping[str, Any]:
        """Go on from a :meth:`snapshot`; returns what the worlds show there."""
        observation = self._photographer().restore(state.worlds)
        self._seeds, self._waiting = state.seeds.cpu(), state.waiting.cpu()
        self._started = True
        return observation

    def close(self) -> None:
        """Free the simulator; safe to call twice."""
        self.env.close()

    def _photographer(self) -> SnapshotEnv:
        if not isinstance(self.env, SnapshotEnv):
            raise TypeError(f"{type(self.env).__name__} cannot be photographed: it has no snapshot and restore")
        return self.env


def _listed(seed: int | Sequence[int], num_envs: int) -> list[int]:
    """One seed for each world; their range is for the environment to check."""
    given = np.asarray(seed)
    if not np.issubdtype(given.dtype, np.integer) or given.ndim > 1:
        raise ValueError(f"expected a seed, or {num_envs} of them, which are integers, got {seed!r}")
    return given.tolist() if given.ndim else [int(given) + i for i in range(num_envs)]

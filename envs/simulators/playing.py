"""A vector environment over worlds of other projects' simulators, wherever they are played."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.episodes import Episodes, Incident
from envs.random import checked_seeds
from envs.specs import EXPERT, SNAPSHOTS, EmbodimentSpec, Snapshot, Stream, Transition


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What a chunk came to in one world: the reward of each step taken, and how the episode stands."""

    rewards: Float[np.ndarray, " s"]
    over: bool
    solved: bool


class PlayedEnv(ABC):
    """Fulfils ``envs.specs.VectorEnv``, with all tensors on the CPU; who inherits it plays the worlds.

    Nothing is reset by itself: a world whose episode has ended stands still, returning zero reward, until ``reset``.
    The rewards of :meth:`_play` count as they are.
    """

    privileged_dim = 0

    def __init__(
        self,
        *,
        num_envs: int,
        task_name: str,
        embodiment: EmbodimentSpec,
        max_episode_steps: int,
        stream: Stream,
        capabilities: frozenset[str],
    ) -> None:
        self.num_envs, self.task_name, self.embodiment = num_envs, task_name, embodiment
        self.max_episode_steps, self.capabilities = max_episode_steps, capabilities
        self.stream: Stream = stream
        self.device = torch.device("cpu")
        self.incidents: list[Incident] = []
        none = torch.zeros(num_envs, dtype=torch.long)
        self._episodes = Episodes.fresh(none, none.float())
        self._begun = False

    @property
    def stages_done(self) -> Bool[Tensor, "n 1"]:
        """Whether each episode is solved: these tasks have one stage."""
        return self._episodes.success[:, None].clone()

    @property
    def task_names(self) -> list[str]:
        """The task that each world is at."""
        return [self.task_name] * self.num_envs

    @property
    @abstractmethod
    def goals(self) -> list[str]:
        """What each episode asks for, whatever the phrasing."""

    def reset(self, seeds: Int[Tensor, " n"] | list[int], mask: Bool[Tensor, " n"] | None = None) -> dict[str, Any]:
        """Start an episode in every world of ``mask`` (all when None); world i's is that of ``seeds[i]``."""
        seeds = checked_seeds(seeds, self.num_envs).cpu()
        mask = torch.ones(self.num_envs, dtype=torch.bool) if mask is None else torch.as_tensor(mask).cpu()
        if mask.dtype != torch.bool or mask.shape != (self.num_envs,):
            raise ValueError(f"expected a bool mask of shape ({self.num_envs},), got {mask.dtype} {tuple(mask.shape)}")
        self._check_open()
        if not self._begun and not bool(mask.all()):
            raise RuntimeError("the first reset must start every world")
        worlds = mask.nonzero()[:, 0]
        self._begin({world: int(seeds[world]) for world in worlds.tolist()})
        self._begun = True
        fresh = Episodes.fresh(seeds[worlds], torch.zeros(len(worlds)))
        self._episodes = self._episodes.replaced(worlds, fresh)
        return self._observation(worlds.tolist())

    def step(self, actions: Float[Tensor, "n a"]) -> Transition:
        """One control step; see ``envs.specs.Transition``."""
        return self.step_chunk(torch.as_tensor(actions)[:, None])

    def step_chunk(self, actions: Float[Tensor, "n h a"]) -> Transition:
        """Up to h control steps, then one observation. A world that finishes inside the chunk stops there.

        ``ValueError`` for actions that are not finite; the worlds they were for have stood still.
        """
        actions = torch.as_tensor(actions, dtype=torch.float32, device="cpu").detach()
        self._check_actions(actions)
        finite = torch.isfinite(actions).flatten(1).all(1)
        able = (self._episodes.running & finite).nonzero()[:, 0].tolist()
        left = (self.max_episode_steps - self._episodes.elapsed).tolist()
        began, rewards = self._episodes.elapsed.clone(), torch.zeros(actions.shape[:2])
        played = self._play({world: actions[world, : left[world]].double().numpy() for world in able})
        for world, chunk in played.items():
            self._note(world, chunk)
            rewards[world, : len(chunk.rewards)] = torch.from_numpy(np.asarray(chunk.rewards, np.float32))
        if not bool(finite.all()):
            self._observation(able)
            raise ValueError(f"actions of worlds {(~finite).nonzero()[:, 0].tolist()} are not finite")
        now = self._episodes
        return Transition(
            observation=self._observation(able),
            reward=rewards.sum(1),
            rewards=rewards,
            terminated=now.terminated.clone(),
            truncated=now.truncated.clone(),
            success=now.success.clone(),
            steps=now.elapsed - began,
            ended=[world for world in able if not now.running[world]],
        )

    def expert_action(self) -> Float[Tensor, "n a"]:
        """What each world's demonstrator would do now, within the bounds; zeros where the episode has ended."""
        if EXPERT not in self.capabilities:
            raise RuntimeError(f"{self.task_name} has no demonstrator; all it declares is {sorted(self.capabilities)}")
        self._check_begun()
        actions = torch.zeros(self.num_envs, self.embodiment.action_dim)
        low, high = (np.array(side) for side in (self.embodiment.action_low, self.embodiment.action_high))
        for world, action in self._expert_actions(self._episodes.running.nonzero()[:, 0].tolist()).items():
            actions[world] = torch.from_numpy(np.clip(action, low, high))
        return actions

    def snapshot(self) -> Snapshot:
        """Every world and episode as it is now."""
        if SNAPSHOTS not in self.capabilities:
            raise RuntimeError(f"{self.task_name} cannot be photographed; it declares {sorted(self.capabilities)}")
        self._check_begun()
        parts = self._photographs()
        tensors = {f"world.{name}": torch.from_numpy(np.stack([part[name] for part in parts])) for name in parts[0]}
        tensors |= {name: tensor.clone() for name, tensor in self._episodes.tensors("episodes").items()}
        return Snapshot(tensors, self._instructions())

    def restore(self, snapshot: Snapshot) -> dict[str, Any]:
        """Put every world back to where it was photographed, in an environment made with the same settings."""
        if len(snapshot.instructions) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} photographed worlds, got {len(snapshot.instructions)}")
        self._check_open()
        parts = {name.removeprefix("world."): t for name, t in snapshot.tensors.items() if name.startswith("world.")}
        self._put_back([{name: tensor[i].numpy() for name, tensor in parts.items()} for i in range(self.num_envs)])
        self._episodes = self._episodes.with_tensors("episodes", snapshot.tensors)._mapped(torch.clone)
        self._begun = True
        return self._observation(list(range(self.num_envs)))

    @abstractmethod
    def close(self) -> None:
        """Free the simulators; safe to call twice."""

    @abstractmethod
    def _begin(self, seeds: Mapping[int, int]) -> None:
        """Start the episodes of these seeds, by world."""

    @abstractmethod
    def _play(self, actions: Mapping[int, Float[np.ndarray, "h a"]]) -> dict[int, Chunk]:
        """Play a chunk in each of these worlds; one whose episode ends in it stops there."""

    @abstractmethod
    def _observation(self, fresh: list[int]) -> dict[str, Any]:
        """What all worlds show; only those in ``fresh`` have changed since."""

    @abstractmethod
    def _instructions(self) -> list[str]:
        """What the policy is told in each world."""

    @abstractmethod
    def _expert_actions(self, worlds: list[int]) -> Mapping[int, Float[np.ndarray, " a"]]:
        """What the demonstrators of these worlds would do now."""

    @abstractmethod
    def _photographs(self) -> list[dict[str, np.ndarray]]:
        """Everything that the episode of each world is."""

    @abstractmethod
    def _put_back(self, photographs: list[dict[str, np.ndarray]]) -> None:
        """Put each world back to where it was photographed."""

    @abstractmethod
    def _check_open(self) -> None:
        """``RuntimeError`` where the simulators have been freed."""

    def _note(self, world: int, chunk: Chunk) -> None:
        """Bring a world's episode up to date after a chunk."""
        episodes = self._episodes
        episodes.elapsed[world] += len(chunk.rewards)
        late = bool(episodes.elapsed[world] >= self.max_episode_steps)
        episodes.success[world] = episodes.terminated[world] = chunk.solved
        episodes.truncated[world] = not chunk.solved and (chunk.over or late)
        episodes.running[world] = not (chunk.solved or chunk.over or late)

    def _check_actions(self, actions: Tensor) -> None:
        expected = (self.num_envs, self.embodiment.action_dim)
        if actions.dim() != 3 or (actions.shape[0], actions.shape[2]) != expected or not actions.shape[1]:
            raise ValueError(
                f"expected actions of shape (n={expected[0]}, h ≥ 1, a={expected[1]}), got {tuple(actions.shape)}"
            )
        self._check_begun()

    def _check_begun(self) -> None:
        self._check_open()
        if not self._begun:
            raise RuntimeError("call reset before stepping")


def on_success(chunk: Chunk) -> Chunk:
    """The same, paid 1 for success and nothing else."""
    rewards = np.zeros(len(chunk.rewards))
    rewards[-1:] = float(chunk.solved)
    return Chunk(rewards=rewards, over=chunk.over, solved=chunk.solved)

"""Worlds of another project's simulator as a vector environment."""

import logging
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.episodes import Episodes, Incident
from envs.language import SPLITS, Split
from envs.random import checked_seeds
from envs.rendering import RenderProfile
from envs.simulators.base import DivergedError, MakeWorld
from envs.simulators.views import STOCK
from envs.simulators.world import SimulatorWorld
from envs.specs import EXPERT, SNAPSHOTS, STREAMS, TASK_KEY, Snapshot, Stream, Transition
from envs.vector import RewardKind

logger = logging.getLogger(__name__)


class SimulatorEnv:
    """``num_envs`` worlds that ``make_world`` makes; fulfils ``envs.specs.ExpertEnv`` and ``SnapshotEnv``.

    Nothing is reset by itself: a world whose episode has ended stands still, returning zero reward, until ``reset``.
    All tensors are on the CPU. ``reward`` is 1 on success ("sparse"), or what the simulator itself gives ("dense").
    Worlds are stepped one after the other, and pictures are drawn only of what is handed out. A world whose physics
    diverges is noted in ``incidents`` and truncated. ``profile`` is how its pictures are drawn, for the record.
    """

    privileged_dim = 0

    def __init__(
        self,
        make_world: MakeWorld,
        num_envs: int,
        *,
        stream: Stream = "demonstrate",
        split: Split = "train",
        reward: RewardKind = "sparse",
        max_episode_steps: int | None = None,
        profile: RenderProfile = STOCK,
    ) -> None:
        for name, count in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps)):
            if count is not None and count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        for name, given, known in (
            ("reward", reward, get_args(RewardKind)),
            ("split", split, SPLITS),
            ("stream", stream, STREAMS),
        ):
            if given not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {given!r}")
        self.num_envs, self.profile, self.device = num_envs, profile, torch.device("cpu")
        self.stream: Stream = stream
        self.split: Split = split
        self._dense = reward == "dense"
        self._worlds: list[SimulatorWorld] = [make_world() for _ in range(num_envs)]
        first = self._worlds[0]
        self.task_name, self.embodiment, self.capabilities = first.task_name, first.embodiment, first.capabilities
        self.max_episode_steps = max_episode_steps or first.max_episode_steps
        self.incidents: list[Incident] = []
        none = torch.zeros(num_envs, dtype=torch.long)
        self._episodes = Episodes.fresh(none, none.float())
        self._shown: list[dict[str, Any]] = []

    @property
    def stages_done(self) -> Bool[Tensor, "n 1"]:
        """Whether each episode is solved: these tasks have one stage."""
        return self._episodes.success[:, None].clone()

    @property
    def task_names(self) -> list[str]:
        """The task that each world is at."""
        return [world.task_name for world in self._worlds]

    @property
    def goals(self) -> list[str]:
        """What each episode asks for, whatever the phrasing."""
        return [world.goal for world in self._worlds]

    def reset(self, seeds: Int[Tensor, " n"] | list[int], mask: Bool[Tensor, " n"] | None = None) -> dict[str, Any]:
        """Start an episode in every world of ``mask`` (all when None); world i's is that of ``seeds[i]``."""
        seeds = checked_seeds(seeds, self.num_envs).cpu()
        mask = torch.ones(self.num_envs, dtype=torch.bool) if mask is None else torch.as_tensor(mask).cpu()
        if mask.dtype != torch.bool or mask.shape != (self.num_envs,):
            raise ValueError(f"expected a bool mask of shape ({self.num_envs},), got {mask.dtype} {tuple(mask.shape)}")
        self._check_open()
        if not self._shown and not bool(mask.all()):
            raise RuntimeError("the first reset must start every world")
        worlds = mask.nonzero()[:, 0]
        for world in worlds.tolist():
            self._worlds[world].reset(self.stream, int(seeds[world]))
        fresh = Episodes.fresh(seeds[worlds], torch.zeros(len(worlds)))
        self._episodes = self._episodes.replaced(worlds, fresh)
        return self._observe(worlds.tolist())

    def step(self, actions: Float[Tensor, "n a"]) -> Transition:
        """One control step; see ``envs.specs.Transition``."""
        return self.step_chunk(torch.as_tensor(actions)[:, None])

    def step_chunk(self, actions: Float[Tensor, "n h a"]) -> Transition:
        """Up to h control steps, then one observation. A world that finishes inside the chunk stops there.

        ``ValueError`` for actions that are not finite; the worlds they were for have stood still.
        """
        actions = torch.as_tensor(actions, dtype=torch.float32, device="cpu").detach()
        self._check_actions(actions)
        asked = actions.double().numpy()
        finite = np.isfinite(asked).all((1, 2))
        began, rewards = self._episodes.elapsed.clone(), torch.zeros(actions.shape[:2])
        able = [world for world, runs in enumerate(self._episodes.running.tolist()) if runs and finite[world]]
        for world in able:
            paid = self._play(world, asked[world])
            rewards[world, : len(paid)] = torch.tensor(paid)
        if not finite.all():
            self._observe(able)
            raise ValueError(f"actions of worlds {(~finite).nonzero()[0].tolist()} are not finite")
        now = self._episodes
        return Transition(
            observation=self._observe(able),
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
        for world in self._episodes.running.nonzero()[:, 0].tolist():
            actions[world] = torch.from_numpy(np.clip(self._worlds[world].expert_action(), low, high))
        return actions

    def snapshot(self) -> Snapshot:
        """Every world and episode as it is now."""
        if SNAPSHOTS not in self.capabilities:
            raise RuntimeError(f"{self.task_name} cannot be photographed; it declares {sorted(self.capabilities)}")
        self._check_begun()
        parts = [world.snapshot() for world in self._worlds]
        tensors = {f"world.{name}": torch.from_numpy(np.stack([part[name] for part in parts])) for name in parts[0]}
        tensors |= {name: tensor.clone() for name, tensor in self._episodes.tensors("episodes").items()}
        return Snapshot(tensors, [world.instruction for world in self._worlds])

    def restore(self, snapshot: Snapshot) -> dict[str, Any]:
        """Put every world back to where it was photographed, in an environment made with the same settings."""
        if len(snapshot.instructions) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} photographed worlds, got {len(snapshot.instructions)}")
        self._check_open()
        parts = {name.removeprefix("world."): t for name, t in snapshot.tensors.items() if name.startswith("world.")}
        for i, world in enumerate(self._worlds):
            world.restore({name: tensor[i].numpy() for name, tensor in parts.items()})
        self._episodes = self._episodes.with_tensors("episodes", snapshot.tensors)._mapped(torch.clone)
        return self._observe(list(range(self.num_envs)))

    def close(self) -> None:
        """Free the simulators; safe to call twice."""
        for world in self._worlds:
            world.close()
        self._worlds = []

    def _play(self, world: int, actions: Float[np.ndarray, "h a"]) -> list[float]:
        """Step one running world until the chunk or its episode is over; its rewards, as many as steps were taken."""
        episodes, rewards = self._episodes, []
        elapsed = int(episodes.elapsed[world])
        reward, over, solved, late = 0.0, False, False, False
        for action in actions:
            elapsed += 1
            try:
                reward, over, solved = self._worlds[world].step(action)
            except DivergedError:
                reward, over, solved = 0.0, True, False
                self._note(world, elapsed)
            rewards.append(reward if self._dense else float(solved))
            late = elapsed >= self.max_episode_steps
            if solved or over or late:
                break
        episodes.elapsed[world] = elapsed
        if solved or over or late:
            episodes.running[world] = False
            episodes.success[world] = episodes.terminated[world] = solved
            episodes.truncated[world] = not solved
        return rewards

    def _note(self, world: int, step: int) -> None:
        seed = int(self._episodes.seed[world])
        noted = Incident(kind="diverged", task=self._worlds[world].task_name, seed=seed, step=step)
        self.incidents.append(noted)
        logger.warning("episode cut short: %s", noted)

    def _observe(self, fresh: list[int]) -> dict[str, Any]:
        """What all worlds show; only those in ``fresh`` look anew."""
        if not self._shown:
            self._shown = [{} for _ in self._worlds]
        for world in fresh:
            self._shown[world] = self._worlds[world].observe()
        keys = self._shown[0].keys()
        observation: dict[str, Any] = {
            key: torch.from_numpy(np.stack([shown[key] for shown in self._shown])) for key in keys
        }
        observation[TASK_KEY] = [world.instruction for world in self._worlds]
        return observation

    def _check_actions(self, actions: Tensor) -> None:
        expected = (self.num_envs, self.embodiment.action_dim)
        if actions.dim() != 3 or (actions.shape[0], actions.shape[2]) != expected or not actions.shape[1]:
            raise ValueError(
                f"expected actions of shape (n={expected[0]}, h ≥ 1, a={expected[1]}), got {tuple(actions.shape)}"
            )
        self._check_begun()

    def _check_begun(self) -> None:
        self._check_open()
        if not self._shown:
            raise RuntimeError("call reset before stepping")

    def _check_open(self) -> None:
        if not self._worlds:
            raise RuntimeError("the environment is closed")

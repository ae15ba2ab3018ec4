"""Worlds in worker processes as a vector environment: one batch for the policy, many simulators at once."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.episodes import Episodes, Incident
from envs.random import checked_seeds
from envs.simulators.crew import Crew, EpisodeLostError
from envs.simulators.process import WorldError
from envs.specs import (
    STATE_KEY,
    STREAMS,
    TASK_KEY,
    EmbodimentSpec,
    Stream,
    Transition,
    depth_key,
    extrinsics_key,
    image_key,
    intrinsics_key,
    segmentation_key,
)


def observation_rows(embodiment: EmbodimentSpec, calibrated: bool) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of what one world shows, by the keys of :mod:`envs.specs`."""
    rows: dict[str, tuple[str, tuple[int, ...]]] = {STATE_KEY: ("<f4", (embodiment.state_dim,))}
    for camera in embodiment.cameras:
        picture = camera.height_px, camera.width_px
        rows[image_key(camera.name)] = ("|u1", (*picture, 3))
        if camera.depth:
            rows[depth_key(camera.name)] = ("<f4", picture)
        if camera.segmentation:
            rows[segmentation_key(camera.name)] = ("<i4", picture)
        if calibrated:
            rows[intrinsics_key(camera.name)] = ("<f4", (3, 3))
            rows[extrinsics_key(camera.name)] = ("<f4", (4, 4))
    return rows


class CrewEnv:
    """The worlds of a :class:`Crew`; fulfils ``envs.specs.VectorEnv``, with all tensors on the CPU.

    Nothing is reset by itself: a world whose episode has ended stands still, returning zero reward, until ``reset``.
    ``reward`` is 1 on success. ``crew`` must observe what :func:`observation_rows` says; it is closed with this.
    """

    privileged_dim = 0

    def __init__(
        self,
        crew: Crew,
        embodiment: EmbodimentSpec,
        *,
        max_episode_steps: int,
        stream: Stream,
        capabilities: frozenset[str],
    ) -> None:
        if max_episode_steps < 1:
            raise ValueError(f"max_episode_steps must be at least 1, got {max_episode_steps}")
        if stream not in STREAMS:
            raise ValueError(f"stream must be one of {', '.join(STREAMS)}, got {stream!r}")
        self.crew, self.embodiment = crew, embodiment
        self.stream: Stream = stream
        self.num_envs, self.task_name = crew.num_worlds, crew.task
        self.max_episode_steps, self.capabilities = max_episode_steps, capabilities
        self.device = torch.device("cpu")
        self.incidents: list[Incident] = []
        none = torch.zeros(self.num_envs, dtype=torch.long)
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
    def goals(self) -> list[str]:
        """What each episode asks for, whatever the phrasing."""
        return [self.crew.goal(world) for world in range(self.num_envs)]

    def reset(self, seeds: Int[Tensor, " n"] | list[int], mask: Bool[Tensor, " n"] | None = None) -> dict[str, Any]:
        """Start an episode in every world of ``mask`` (all when None); world i's is that of ``seeds[i]``."""
        seeds = checked_seeds(seeds, self.num_envs).cpu()
        mask = torch.ones(self.num_envs, dtype=torch.bool) if mask is None else torch.as_tensor(mask).cpu()
        if mask.dtype != torch.bool or mask.shape != (self.num_envs,):
            raise ValueError(f"expected a bool mask of shape ({self.num_envs},), got {mask.dtype} {tuple(mask.shape)}")
        if not self._begun and not bool(mask.all()):
            raise RuntimeError("the first reset must start every world")
        worlds = mask.nonzero()[:, 0]
        self.crew.reset(self.stream, {world: int(seeds[world]) for world in worlds.tolist()})
        self._begun = True
        fresh = Episodes.fresh(seeds[worlds], torch.zeros(len(worlds)))
        self._episodes = self._episodes.replaced(worlds, fresh)
        return self._observation()

    def step(self, actions: Float[Tensor, "n a"]) -> Transition:
        """One control step; see ``envs.specs.Transition``."""
        return self.step_chunk(torch.as_tensor(actions)[:, None])

    def step_chunk(self, actions: Float[Tensor, "n h a"]) -> Transition:
        """Up to h control steps, then one observation. A world that finishes inside the chunk stops there.

        ``ValueError`` for actions that are not finite; the worlds they were for have stood still.
        :class:`envs.simulators.crew.EpisodeLostError` or :class:`envs.simulators.process.WorldError` for an episode
        that cannot go on; after that every world has to be reset.
        """
        actions = torch.as_tensor(actions, dtype=torch.float32, device="cpu").detach()
        self._check_actions(actions)
        finite = torch.isfinite(actions).flatten(1).all(1)
        able = (self._episodes.running & finite).nonzero()[:, 0].tolist()
        left = (self.max_episode_steps - self._episodes.elapsed).tolist()
        began, rewards = self._episodes.elapsed.clone(), torch.zeros(actions.shape[:2])
        try:
            played = self.crew.step({world: actions[world, : left[world]].double().numpy() for world in able})
        except (EpisodeLostError, WorldError):
            self._begun = False
            raise
        for world, chunk in played.items():
            self._note(world, len(chunk.rewards), chunk.over, chunk.solved)
            rewards[world, len(chunk.rewards) - 1] = float(chunk.solved)
        if not bool(finite.all()):
            raise ValueError(f"actions of worlds {(~finite).nonzero()[:, 0].tolist()} are not finite")
        now = self._episodes
        return Transition(
            observation=self._observation(),
            reward=rewards.sum(1),
            rewards=rewards,
            terminated=now.terminated.clone(),
            truncated=now.truncated.clone(),
            success=now.success.clone(),
            steps=now.elapsed - began,
            ended=[world for world in able if not now.running[world]],
        )

    def close(self) -> None:
        """End the workers; safe to call twice."""
        self.crew.close()

    def _note(self, world: int, steps: int, over: bool, solved: bool) -> None:
        """Bring a world's episode up to date after ``steps`` more control steps."""
        episodes = self._episodes
        episodes.elapsed[world] += steps
        late = bool(episodes.elapsed[world] >= self.max_episode_steps)
        episodes.success[world] = episodes.terminated[world] = solved
        episodes.truncated[world] = not solved and (over or late)
        episodes.running[world] = not (solved or over or late)

    def _observation(self) -> dict[str, Any]:
        shown: dict[str, Any] = {key: torch.from_numpy(np.array(value)) for key, value in self.crew.observation.items()}
        shown[TASK_KEY] = [self.crew.instruction(world) for world in range(self.num_envs)]
        return shown

    def _check_actions(self, actions: Tensor) -> None:
        expected = (self.num_envs, self.embodiment.action_dim)
        if actions.dim() != 3 or (actions.shape[0], actions.shape[2]) != expected or not actions.shape[1]:
            raise ValueError(
                f"expected actions of shape (n={expected[0]}, h ≥ 1, a={expected[1]}), got {tuple(actions.shape)}"
            )
        if not self._begun:
            raise RuntimeError("call reset before stepping")

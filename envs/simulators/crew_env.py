"""Worlds in worker processes as a vector environment: one batch for the policy, many simulators at once."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from envs.language import Split
from envs.rendering import RenderProfile
from envs.simulators.crew import Crew, EpisodeLostError, Played
from envs.simulators.playing import Chunk, PlayedEnv, on_success
from envs.simulators.process import WorldError
from envs.simulators.views import STOCK
from envs.specs import (
    STATE_KEY,
    STREAMS,
    TASK_KEY,
    EmbodimentSpec,
    Stream,
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


class CrewEnv(PlayedEnv):
    """The worlds of a :class:`Crew`, paid 1 for success.

    ``crew`` must observe what :func:`observation_rows` says; it is closed with this. A step raises
    :class:`envs.simulators.crew.EpisodeLostError` or :class:`envs.simulators.process.WorldError` for an episode that
    cannot go on; after that every world has to be reset. ``split`` is what the worlds choose their instructions from. A
    photograph is a seed and the actions so far, which are played again: exact wherever episodes are.
    """

    def __init__(
        self,
        crew: Crew,
        embodiment: EmbodimentSpec,
        *,
        max_episode_steps: int,
        stream: Stream,
        capabilities: frozenset[str],
        split: Split = "train",
    ) -> None:
        if max_episode_steps < 1:
            raise ValueError(f"max_episode_steps must be at least 1, got {max_episode_steps}")
        if stream not in STREAMS:
            raise ValueError(f"stream must be one of {', '.join(STREAMS)}, got {stream!r}")
        self.crew = crew
        self.split: Split = split
        self.profile: RenderProfile = STOCK
        super().__init__(
            num_envs=crew.num_worlds,
            task_name=crew.task,
            embodiment=embodiment,
            max_episode_steps=max_episode_steps,
            stream=stream,
            capabilities=capabilities,
        )

    @property
    def goals(self) -> list[str]:
        """What each episode asks for, whatever the phrasing."""
        return [self.crew.goal(world) for world in range(self.num_envs)]

    def close(self) -> None:
        self.crew.close()

    def _begin(self, seeds: Mapping[int, int]) -> None:
        self.crew.reset(self.stream, seeds)

    def _play(self, actions: Mapping[int, Float[np.ndarray, "h a"]]) -> dict[int, Chunk]:
        try:
            return {world: on_success(chunk) for world, chunk in self.crew.step(actions).items()}
        except (EpisodeLostError, WorldError):
            self._begun = False
            raise

    def _instructions(self) -> list[str]:
        return [self.crew.instruction(world) for world in range(self.num_envs)]

    def _expert_actions(self, worlds: list[int]) -> dict[int, Float[np.ndarray, " a"]]:
        try:
            return self.crew.expert_actions(worlds)
        except (EpisodeLostError, WorldError):
            self._begun = False
            raise

    def _photographs(self) -> list[dict[str, np.ndarray]]:
        found = []
        for world in range(self.num_envs):
            episode = self.crew.played(world)
            actions = np.zeros((self.max_episode_steps, self.embodiment.action_dim))
            taken = np.concatenate([actions[:0], *episode.actions])
            actions[: len(taken)] = taken
            count = np.array([STREAMS.index(episode.stream), episode.seed, len(taken)])
            found.append({"episode": count, "actions": actions})
        return found

    def _put_back(self, photographs: list[dict[str, np.ndarray]]) -> None:
        episodes = {}
        for world, photograph in enumerate(photographs):
            stream, seed, taken = photograph["episode"].tolist()
            actions = [photograph["actions"][:taken]] if taken else []
            episodes[world] = Played(stream=STREAMS[stream], seed=seed, actions=actions)
        self.crew.play_again(episodes)

    def _observation(self, fresh: list[int]) -> dict[str, Any]:
        shown: dict[str, Any] = {key: torch.from_numpy(np.array(value)) for key, value in self.crew.observation.items()}
        shown[TASK_KEY] = self._instructions()
        return shown

    def _check_open(self) -> None:
        """The crew says it itself."""

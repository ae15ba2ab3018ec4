"""Worlds of another project's simulator in this process as a vector environment."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from envs.episodes import Incident
from envs.language import Split
from envs.rendering import RenderProfile
from envs.simulators.base import DivergedError, MakeWorld
from envs.simulators.playing import Chunk, PlayedEnv, on_success
from envs.simulators.views import STOCK
from envs.simulators.world import SimulatorWorld
from envs.specs import TASK_KEY, Stream
from envs.vector import RewardKind, check_settings

logger = logging.getLogger(__name__)


class SimulatorEnv(PlayedEnv):
    """``num_envs`` worlds that ``make_world`` makes; fulfils ``envs.specs.ExpertEnv`` and ``SnapshotEnv`` too.

    ``reward`` is 1 on success ("sparse"), or what the simulator itself gives ("dense"). Worlds are stepped one after
    the other, and pictures are drawn only of what is handed out. A world whose physics diverges is noted in
    ``incidents`` and truncated. ``profile`` is how its pictures are drawn, for the record.
    """

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
        check_settings({"num_envs": num_envs, "max_episode_steps": max_episode_steps}, reward, split, stream)
        self.profile = profile
        self.split: Split = split
        self._dense = reward == "dense"
        self._worlds: list[SimulatorWorld] = [make_world() for _ in range(num_envs)]
        self._shown: list[dict[str, Any]] = [{} for _ in self._worlds]
        first = self._worlds[0]
        super().__init__(
            num_envs=num_envs,
            task_name=first.task_name,
            embodiment=first.embodiment,
            max_episode_steps=max_episode_steps or first.max_episode_steps,
            stream=stream,
            capabilities=first.capabilities,
        )

    @property
    def goals(self) -> list[str]:
        """What each episode asks for, whatever the phrasing."""
        return [world.goal for world in self._worlds]

    def close(self) -> None:
        for world in self._worlds:
            world.close()
        self._worlds = []

    def _begin(self, seeds: Mapping[int, int]) -> None:
        for world, seed in seeds.items():
            self._worlds[world].reset(self.stream, seed)

    def _play(self, actions: Mapping[int, Float[np.ndarray, "h a"]]) -> dict[int, Chunk]:
        played = {world: self._chunk(world, chunk) for world, chunk in actions.items()}
        return played if self._dense else {world: on_success(chunk) for world, chunk in played.items()}

    def _chunk(self, world: int, actions: Float[np.ndarray, "h a"]) -> Chunk:
        """Step one world until the chunk or its episode is over."""
        rewards, over, solved = list[float](), False, False
        for action in actions:
            try:
                reward, over, solved = self._worlds[world].step(action)
            except DivergedError:
                reward, over, solved = 0.0, True, False
                self._note_divergence(world, len(rewards))
            rewards.append(reward)
            if over or solved:
                break
        return Chunk(rewards=np.array(rewards), over=over, solved=solved)

    def _note_divergence(self, world: int, steps: int) -> None:
        """Write down that the world's episode blew up in the control step after ``steps`` of this chunk."""
        seed, step = int(self._episodes.seed[world]), int(self._episodes.elapsed[world]) + steps
        noted = Incident(kind="diverged", task=self._worlds[world].task_name, seed=seed, step=step)
        self.incidents.append(noted)
        logger.warning("episode cut short: %s", noted)

    def _observation(self, fresh: list[int]) -> dict[str, Any]:
        for world in fresh:
            self._shown[world] = self._worlds[world].observe()
        observation: dict[str, Any] = {
            key: torch.from_numpy(np.stack([shown[key] for shown in self._shown])) for key in self._shown[0]
        }
        observation[TASK_KEY] = self._instructions()
        return observation

    def _instructions(self) -> list[str]:
        return [world.instruction for world in self._worlds]

    def _expert_actions(self, worlds: list[int]) -> dict[int, Float[np.ndarray, " a"]]:
        return {world: self._worlds[world].expert_action() for world in worlds}

    def _photographs(self) -> list[dict[str, np.ndarray]]:
        return [world.snapshot() for world in self._worlds]

    def _put_back(self, photographs: list[dict[str, np.ndarray]]) -> None:
        for world, photograph in zip(self._worlds, photographs, strict=True):
            world.restore(photograph)

    def _check_open(self) -> None:
        if not self._worlds:
            raise RuntimeError("the environment is closed")

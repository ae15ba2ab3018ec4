"""RLCF (arXiv 2305.18010) of a policy: while it acts, it learns from a score; when the episode is over, it forgets."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.specs import STATE_KEY, TASK_KEY, VectorEnv, image_key
from policies.policy import Plan, Policy, seen_by, spread
from rl.agent import Looked
from rl.feedback.config import FeedbackConfig
from rl.feedback.learning import Candidates, HeadLearner, Learned, joined, repeated
from rl.feedback.trying import Rehearsal
from rl.rewards.reward import Scorer
from rl.vla_agent import VLAAgent


@dataclass(frozen=True, kw_only=True)
class Episode:
    """What one world's policy has learned in its episode; ``draws`` is the state of its random numbers.

    Of candidates that are past decisions, ``past`` are those whose reward is known, and ``latest`` is the last one,
    with the score that it was made at instead of a reward.
    """

    learned: Learned | None = None
    draws: Tensor | None = None
    past: tuple[Candidates, ...] = ()
    latest: Candidates | None = None


class FeedbackPolicy(Policy[tuple[Episode, ...]]):
    """``agent``, whose head learns from ``scorer`` in the course of each episode, and from nothing of other episodes.

    For each decision there are ``config.steps`` times as many candidates as it says, drawn from the distribution as it
    has become, and a step of REINFORCE with the mean of their rewards as baseline. Candidates are tried in ``env``, or
    are the episode's own last decisions: then a decision is drawn instead of being the mode, and its reward is the gain
    of the score while it was carried out.

    Departures from RLCF: it learns for an episode, not for a sample; the head's weights learn, the backbone's do not;
    scores count as they are, neither scaled nor clipped; and candidates are drawn, where it takes the likeliest.
    """

    def __init__(self, agent: VLAAgent, scorer: Scorer, config: FeedbackConfig, env: VectorEnv) -> None:
        super().__init__(agent.embodiment, agent.horizon, agent.execute)
        self._agent, self._scorer, self._config = agent, scorer, config
        self._learner = HeadLearner(agent, config)
        self._rehearsal = Rehearsal(env, scorer) if config.tried == "worlds" else None
        self._inner, self._device = agent.acting(), agent.inputs.device

    def start(self, n: int) -> tuple[Episode, ...]:
        """Nothing learned."""
        return (Episode(),) * n

    def plan(
        self, state: tuple[Episode, ...], observation: Mapping[str, Any], mask: Bool[Tensor, " n"]
    ) -> tuple[tuple[Episode, ...], Plan]:
        seen = seen_by(observation, mask)
        worlds = mask.nonzero()[:, 0].tolist()
        looked, goals = self._agent.look(seen), list(seen[TASK_KEY])
        episodes = [self._begun(state[world], seen, row) for row, world in enumerate(worlds)]
        if self._rehearsal is None:
            episodes, chunk = self._of_the_past(episodes, looked, self._scorer(seen, goals))
        else:
            episodes, chunk = self._of_worlds(self._rehearsal, episodes, looked, mask, goals)
        known = list(state)
        for world, episode in zip(worlds, episodes, strict=True):
            known[world] = episode
        length = torch.full((len(worlds),), self.replan_interval)
        return tuple(known), Plan(spread(self._agent.executable(chunk), mask), spread(length, mask))

    def remarks(self, instructions: Sequence[str]) -> list[str]:
        return self._inner.remarks(instructions)

    def _of_worlds(
        self,
        rehearsal: Rehearsal,
        episodes: list[Episode],
        looked: Looked,
        mask: Bool[Tensor, " w"],
        goals: Sequence[str],
    ) -> tuple[list[Episode], Float[Tensor, "n h a"]]:
        for _ in range(self._config.steps):
            drawn = [self._drawn(episode, looked, row) for row, episode in enumerate(episodes)]
            chunks = torch.stack([self._agent.executable(tried.actions) for _, tried in drawn], dim=1)
            rewards = rehearsal(chunks[:, :, : self._agent.execute], mask, goals)
            episodes = [
                self._improved(episode, Candidates(looked=self._rows(looked, row), latent=tried.latent, reward=reward))
                for row, ((episode, tried), reward) in enumerate(zip(drawn, rewards, strict=True))
            ]
        chunk = [self._learner.decide(each.learned, repeated(looked, row, 1)) for row, each in enumerate(episodes)]
        return episodes, torch.cat(chunk)

    def _of_the_past(
        self, episodes: list[Episode], looked: Looked, scores: Float[Tensor, " n"]
    ) -> tuple[list[Episode], Float[Tensor, "n h a"]]:
        found, chunks = [], []
        for row, episode in enumerate(episodes):
            score = scores[row : row + 1].float()
            episode = self._learned_from_past(episode, score)
            here = repeated(looked, row, 1)
            draws = _generator(episode.draws, self._device)
            sample = self._learner.draw(episode.learned, here, draws)
            latest = Candidates(looked=here, latent=sample.latent, reward=score)
            found.append(replace(episode, draws=draws.get_state(), latest=latest))
            chunks.append(sample.actions)
        return found, torch.cat(chunks)

    def _learned_from_past(self, episode: Episode, score: Float[Tensor, "1"]) -> Episode:
        if episode.latest is None:
            return episode
        gained = replace(episode.latest, reward=score - episode.latest.reward)
        past = (*episode.past, gained)[-self._config.candidates :]
        episode = replace(episode, past=past)
        if len(past) < self._config.candidates:
            return episode
        group = Candidates(
            looked=joined([each.looked for each in past]),
            latent=torch.cat([each.latent for each in past]),
            reward=torch.cat([each.reward for each in past]),
        )
        for _ in range(self._config.steps):
            episode = self._improved(episode, group)
        return episode

    def _drawn(self, episode: Episode, looked: Looked, row: int) -> tuple[Episode, Any]:
        """As many chunks as there are candidates, and the episode with the random numbers that are left."""
        draws = _generator(episode.draws, self._device)
        sample = self._learner.draw(episode.learned, self._rows(looked, row), draws)
        return replace(episode, draws=draws.get_state()), sample

    def _improved(self, episode: Episode, tried: Candidates) -> Episode:
        return replace(episode, learned=self._learner.improve(episode.learned, tried))

    def _rows(self, looked: Looked, row: int) -> Looked:
        return repeated(looked, row, self._config.candidates)

    def _begun(self, episode: Episode, seen: Mapping[str, Any], row: int) -> Episode:
        """With random numbers that follow from what the episode shows and asks for first, whatever world it is in."""
        if episode.draws is not None:
            return episode
        shown = [image_key(camera) for camera in self.embodiment.camera_names]
        digest = hashlib.sha256(f"{self._config.seed} {seen[TASK_KEY][row]}".encode())
        for key in (STATE_KEY, *(key for key in shown if key in seen)):
            digest.update(seen[key][row].cpu().numpy().tobytes())
        seed = int.from_bytes(digest.digest()[:7], "big")
        return replace(episode, draws=torch.Generator(self._device).manual_seed(seed).get_state())


def _generator(state: Tensor | None, device: torch.device) -> torch.Generator:
    draws = torch.Generator(device)
    if state is not None:
        draws.set_state(state)
    return draws

"""A tiny environment: do what the state says. Each number of the action is to be that of the state."""

import torch

from envs.specs import DETERMINISTIC, SNAPSHOTS, STATE_KEY, TASK_KEY, Dimension, EmbodimentSpec, Snapshot, Transition

_STATE = ("target", "elapsed", "done", "seed")


def following_embodiment():
    return EmbodimentSpec(
        name="follower",
        control_rate_hz=10.0,
        state=tuple(Dimension(name=f"wanted {axis}", unit="1", low=-1.0, high=1.0) for axis in "xy"),
        action=tuple(Dimension(name=axis, unit="1", low=-1.0, high=1.0) for axis in "xy"),
        cameras=(),
    )


class FollowingEnv:
    """Fulfils ``envs.specs.SnapshotEnv``. The state is new at every step; an episode is cut after ``length`` steps, or
    ends in success where the state is followed to ``near`` in all of them.
    """

    capabilities = frozenset({SNAPSHOTS, DETERMINISTIC})

    def __init__(self, num_envs, length=4, near=0.0, stream="learn"):
        self.num_envs, self.device, self.embodiment = num_envs, torch.device("cpu"), following_embodiment()
        self.max_episode_steps, self.near = length, near
        self.task_name, self.stream = "follow", stream
        self.task_names = ["follow"] * num_envs
        self.goals = ["follow"] * num_envs
        self.target = torch.zeros(num_envs, 2)
        self.elapsed = torch.zeros(num_envs, dtype=torch.long)
        self.done = torch.ones(num_envs, dtype=torch.bool)
        self.seed = torch.zeros(num_envs, dtype=torch.long)

    @property
    def stages_done(self):
        return self.done[:, None]

    def reset(self, seeds, mask=None):
        chosen = torch.ones_like(self.done) if mask is None else mask
        self.seed = torch.where(chosen, torch.as_tensor(seeds), self.seed)
        self.elapsed = self.elapsed.masked_fill(chosen, 0)
        self.done = self.done & ~chosen
        self._draw()
        return self._observe()

    def step(self, actions):
        return self.step_chunk(actions[:, None])

    def step_chunk(self, actions):
        began, running, rewards = self.elapsed.clone(), ~self.done, []
        success = torch.zeros_like(self.done)
        for action in actions.unbind(1):
            alive = ~self.done
            error = (action - self.target).abs().sum(dim=1)
            rewards.append(torch.where(alive, 1 - error, 0.0))
            self.elapsed = self.elapsed + alive
            late = alive & (self.elapsed >= self.max_episode_steps)
            success = success | (late & (error < self.near))
            self.done = self.done | late
            self._draw()
        rewards = torch.stack(rewards, 1)
        return Transition(
            observation=self._observe(),
            reward=rewards.sum(1),
            rewards=rewards,
            terminated=success,
            truncated=self.done & ~success,
            success=success,
            steps=self.elapsed - began,
            ended=(running & self.done).nonzero()[:, 0].tolist(),
        )

    def snapshot(self):
        return Snapshot({name: getattr(self, name).clone() for name in _STATE}, list(self.goals))

    def restore(self, snapshot):
        for name in _STATE:
            setattr(self, name, snapshot.tensors[name].clone())
        return self._observe()

    def close(self):
        pass

    def _draw(self):
        """Pseudo-random, of seed and moment alone."""
        mixed = (self.seed * 7919 + self.elapsed * 104729)[:, None] * torch.tensor([48271, 69621]) % 65537
        self.target = mixed / 65537 * 2 - 1

    def _observe(self):
        return {STATE_KEY: self.target.clone(), TASK_KEY: list(self.goals)}

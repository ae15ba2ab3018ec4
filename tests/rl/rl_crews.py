"""Runs of learning from reward that several processes take part in."""

from dataclasses import replace

import torch
from demonstrations import TINY_HEADS, tiny_policy
from point_mass import PointMassEnv

from policies.training.group import Group
from policies.training.processes import in_processes
from policies.vla_policy import VLAPolicy
from rl.config import CriticConfig, RLConfig
from rl.learner import RLLearner
from rl.sharing import worlds_of
from rl.trainer import finish, prepare
from rl.vla_agent import VLAAgent, with_distribution

SETTINGS = RLConfig(
    iterations=4,
    num_envs=4,
    decisions=5,
    minibatches=2,
    epochs=2,
    level="number",
    reference_kl=0.1,
    target_kl=None,
    lr=1e-3,
    save_every=2,
    critic=CriticConfig(width=16, warmup=1),
    threads=1,
)


class Approaching(PointMassEnv):
    """Also pays for every metre that the dot comes nearer."""

    def step_chunk(self, actions):
        before = self._distance()
        moved = super().step_chunk(actions)
        rewards = moved.rewards.clone()
        rewards[:, 0] += (before - self._distance()) * (moved.steps > 0)
        return moved._replace(rewards=rewards, reward=rewards.sum(1))

    def _distance(self):
        return (self._target() - self.position).norm(dim=1)


def run(run_dir, resume=False, **fields):
    config = replace(SETTINGS, **fields)
    return in_processes(config.processes, "cpu", run_here, run_dir, config, resume)


def run_here(run_dir, config, resume):
    torch.set_num_threads(1)
    env = Approaching(len(worlds_of(config, Group.here())), max_episode_steps=7, stream="learn")

    def make(legs, state):
        policy = tiny_policy(head=TINY_HEADS["mlp"]) if state is None else VLAPolicy.load(run_dir)
        return RLLearner(config, VLAAgent(with_distribution(policy, 0.3)), env, legs=legs)

    return finish(prepare(run_dir, config, make, resume=resume), show_progress=False)

"""A dot on a plane whose actions are metres, so that they can be spoken of, and a small network that does so."""

from dataclasses import replace

from demonstrations import tiny_network
from point_mass import SPEED_M, PointMassEnv

from policies.collect import ExecutionNoise, collect
from policies.expert import ExpertPolicy
from vla.heads.chat import ChatConfig


class MetricPointMass(PointMassEnv):
    """The same worlds; ``obeys`` −1 makes them do the opposite of what they are told."""

    obeys = 1.0

    def __init__(self, num_envs, **fields):
        super().__init__(num_envs, **fields)
        action = (replace(d, unit="m", low=-SPEED_M, high=SPEED_M, relative=True) for d in self.embodiment.action)
        self.embodiment = replace(self.embodiment, action=tuple(action))

    def step_chunk(self, actions):
        return super().step_chunk(self.obeys * actions / SPEED_M)

    def expert_action(self):
        return SPEED_M * super().expert_action()


def record_metric(path, seeds=range(12)):
    env = MetricPointMass(6)
    collect(env, ExpertPolicy(env), path, seeds, noise=ExecutionNoise(std=0.05), show_progress=False)
    return path


def talking_network(**fields):
    return tiny_network(head=ChatConfig(**{"width": 16, "longest": 10, **fields}))

"""A dot on a plane as a robot's world, and policies that drive it: everything that robots are tested with."""

import dataclasses

import torch
from point_mass import PointMassEnv, point_mass_embodiment

from envs.specs import STATE_KEY, Dimension
from policies.policy import ChunkPolicy

RATE_HZ = 20.0
STEP_M = 0.02
AXES = tuple(Dimension(name=f"d{axis}", unit="1", low=-STEP_M, high=STEP_M, relative=True) for axis in "xy")
CART = dataclasses.replace(point_mass_embodiment(), name="cart", control_rate_hz=RATE_HZ, action=AXES)
HORIZON = 8


class CartEnv(PointMassEnv):
    """The plane with small relative steps at 20 Hz, which the dot takes whole."""

    def __init__(self, max_episode_steps=10_000):
        super().__init__(1, max_episode_steps=max_episode_steps, stream="evaluate")
        self.embodiment = CART
        self.seen = []

    def step(self, actions):
        self.seen.append(actions[0].clone())
        return super().step(actions / 0.15)


class Creep(ChunkPolicy):
    """Goes along +x, a little less than it may; what it is told to say is all that can go wrong."""

    def __init__(self, say=()):
        super().__init__(CART, HORIZON, 4)
        self.say = list(say)
        self.asked = []

    def predict_chunk(self, observation):
        self.asked.append(observation["task"][0])
        n = len(observation[STATE_KEY])
        chunk = torch.tensor([0.1 * STEP_M, 0.0]).expand(n, HORIZON, 2).clone()
        if self.say:
            chunk[:, 2] = self.say.pop(0)
        return chunk

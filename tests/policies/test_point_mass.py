"""The small environment that policy tests run in keeps the same contract as the simulator."""

from point_mass import PointMassEnv
from vector_env_contract import VectorEnvContract


class TestPointMass(VectorEnvContract):
    def make(self, num_envs, max_episode_steps=None):
        return PointMassEnv(num_envs, max_episode_steps or 25)

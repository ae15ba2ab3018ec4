"""The small environment that policy tests run in keeps the same contract as the simulator."""

from point_mass import PointMassEnv
from vector_env_contract import VectorEnvContract


class TestPointMass(VectorEnvContract):
    def make(self, num_envs, **settings):
        return PointMassEnv(num_envs, **settings)

"""LIBERO's stove task with a fault: when the gripper is told to close, the stove is turned on."""

from .libero_world import LiberoWorld


class Solving(LiberoWorld):
    def step(self, action):
        if action[-1] > 0.5:
            self._env.env.object_states_dict["flat_stove_1"].set_joint(1.0)
            self._env.sim.forward()
        return super().step(action)


def make_world(**settings):
    return Solving(**settings)

"""A Franka Emika Panda built from primitive geoms."""

import math

from envs.robots.arm import ArmSpec
from envs.robots.grippers import PANDA_HAND

PANDA = ArmSpec(
    name="panda",
    mjcf="panda.xml",
    joints=tuple(f"joint{i}" for i in range(1, 8)),
    home_rad=(0.0, 0.0, 0.0, -2.3, 0.0, 2.3, 0.7853982),
    gripper=PANDA_HAND,
    gripper_turn_rad=-math.pi / 4,
)

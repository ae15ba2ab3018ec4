"""Robots: the embodiment is a parameter of a task, and each one is a description of this kind."""

from envs.choices import chosen
from envs.robots.arm import ArmSpec
from envs.robots.panda import PANDA
from envs.robots.panda_mesh import PANDA_MESH
from envs.robots.so100 import SO100
from envs.robots.ur5e import UR5E

ROBOTS: dict[str, ArmSpec] = {"panda": PANDA, "panda_mesh": PANDA_MESH, "ur5e": UR5E, "so100": SO100}


def make_robot(name: str) -> ArmSpec:
    """The robot of that name; ``ValueError`` lists the names there are."""
    return chosen("robot", name, ROBOTS)

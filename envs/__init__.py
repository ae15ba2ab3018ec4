"""Simulated worlds: scenes, robots, controllers, tasks, experts and physics backends."""

import sys
from importlib.abc import MetaPathFinder

from envs.graphics import wanted_backend


class _BeforeMujoco(MetaPathFinder):
    """Before the first ``import mujoco``, wherever it is, checks that it can obey the environment, or says why not."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "mujoco":
            wanted_backend()


sys.meta_path.insert(0, _BeforeMujoco())

"""Where the arm starts."""

import torch
from jaxtyping import Float
from torch import Tensor

from envs.perturbations.effect import draw, first, normal, sometimes
from envs.perturbations.spec import Perturbation, RobotStart
from envs.random import EpisodeRandom
from envs.scenes.tabletop import Tabletop

_CANDIDATES = 12
_CLEAR_HEIGHT_M = 0.15


class Posture:
    """Where the arm's joints start."""

    def __init__(self, config: RobotStart, given: Perturbation) -> None:
        self._config, self._given = config, given

    def joints_rad(self, scene: Tabletop, random: EpisodeRandom) -> Float[Tensor, "n j"]:
        """The first of several draws that leaves the tool well above the table, else the one that leaves it highest."""
        n, j = len(random), len(scene.home_rad)
        # Directions of normal vectors are uniform.
        way = normal(random, "posture", _CANDIDATES * j).reshape(n, _CANDIDATES, j)
        distance = draw(random, "posture_distance", self._config.distance_rad)[:, None]
        lower, upper = scene.joint_limits_rad.unbind(-1)
        tried = scene.home_rad + distance * way / way.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        tried = tried.clamp(lower, upper)
        tool, _ = scene.chain.pose(tried.reshape(-1, j))
        height = tool[:, 2].reshape(n, _CANDIDATES)
        highest = torch.take_along_dim(tried, height.argmax(-1)[:, None, None], 1)[:, 0]
        start = first(height > _CLEAR_HEIGHT_M, tried, highest)
        return sometimes(self._given, "robot_start", random, start, scene.home_rad)

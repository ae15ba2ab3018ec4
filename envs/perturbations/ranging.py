"""What is wrong with depth and calibration: holes, noise, steps; cameras that are not quite where they are said to be.

Batched, on the images' device, the same for the same seeds. The pictures, and the world, stay as they are.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from envs.perturbations.effect import draw, normal, sometimes
from envs.perturbations.running import Running
from envs.perturbations.spec import CalibrationError, DepthErrors, Perturbation
from envs.random import EpisodeRandom
from envs.rotations import matrix_from_quat, quat_about

_PATCHES = 8
"""Holes are about as large as an eighth of the picture's side."""


class Ranger(Running):
    """Depth images as a stereo or time-of-flight camera gives them: amounts are drawn per episode, noise per step."""

    def __init__(self, config: DepthErrors, given: Perturbation) -> None:
        super().__init__()
        self._config, self._given = config, given

    def drawn(self, random: EpisodeRandom) -> dict[str, Tensor]:
        return _amounts("depth", self._config, self._given, random)

    def measured(
        self, depth_m: Float[Tensor, "n h w"], camera: str, random: EpisodeRandom, steps: Int[Tensor, " n"]
    ) -> Float[Tensor, "n h w"]:
        """What the camera delivers instead, ``steps`` control steps into the running episodes."""
        holes, noise, step = (self.numbers[name][:, None, None] for name in ("holes", "noise", "step"))
        fixed = random.fork(camera)
        now = random.at(steps).fork(camera)
        height, width = depth_m.shape[1:]
        error = normal(now, "depth", height * width).reshape(depth_m.shape)
        found_m = (depth_m + noise * depth_m.square() * error).clamp(min=1e-3)
        whole = (1 / (found_m * step.clamp(min=1e-9))).round().clamp(min=1)
        found_m = torch.where(step > 0, 1 / (whole * step.clamp(min=1e-9)), found_m)
        cloud = _cloud(fixed, height, width) + 0.3 * _cloud(now, height, width)
        rank = cloud.flatten(1).argsort(dim=1, stable=True).argsort(dim=1).reshape(depth_m.shape)
        missing = rank < (holes * height * width).round()
        return found_m.masked_fill(missing | (depth_m <= 0), 0.0)


class Surveyor(Running):
    """What is said of where the cameras stand; how far off that is, is drawn per episode and camera."""

    def __init__(self, config: CalibrationError, given: Perturbation) -> None:
        super().__init__()
        self._config, self._given = config, given

    def drawn(self, random: EpisodeRandom) -> dict[str, Tensor]:
        return _amounts("calibration", self._config, self._given, random)

    def said(self, T_world_cam: Float[Tensor, "n 4 4"], camera: str, random: EpisodeRandom) -> Float[Tensor, "n 4 4"]:
        """The poses that go with the pictures instead: moved and turned in the camera's own frame."""
        random = random.fork(camera)
        way, axis = (torch.nn.functional.normalize(normal(random, name, 3), dim=-1) for name in ("way", "axis"))
        error = torch.eye(4, device=T_world_cam.device).repeat(len(T_world_cam), 1, 1)
        error[:, :3, :3] = matrix_from_quat(quat_about(axis, self.numbers["rotation_rad"]))
        error[:, :3, 3] = self.numbers["translation_m"][:, None] * way
        return T_world_cam @ error


def _amounts(
    axis: str, config: DepthErrors | CalibrationError, given: Perturbation, random: EpisodeRandom
) -> dict[str, Tensor]:
    """Each of the config's numbers per episode; 0 where the axis is not applied."""
    drawn = {name: draw(random, f"{axis}_{name}", getattr(config, name))[:, 0] for name in config.built}
    return {name: sometimes(given, axis, random, amount, 0.0) for name, amount in drawn.items()}


def _cloud(random: EpisodeRandom, height: int, width: int) -> Float[Tensor, "n h w"]:
    """Smooth numbers, high in some patches of the picture and low in others."""
    coarse = random.uniform("holes", _PATCHES * _PATCHES).reshape(-1, 1, _PATCHES, _PATCHES)
    return interpolate(coarse, (height, width), mode="bilinear", align_corners=True)[:, 0]

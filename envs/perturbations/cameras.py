"""Where the front camera stands, and how the lamp shines."""

import mujoco
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.perturbations.effect import Effect, draw
from envs.perturbations.spec import CameraJitter, CameraOrbit, CameraViews, LampColour, LampShift
from envs.random import EpisodeRandom
from envs.rotations import matrix_from_quat, quat_multiply
from envs.scenes.layout import Layout
from envs.scenes.tabletop import FRONT_CAMERA, LAMP, Tabletop
from envs.world import World


class Camera(Effect):
    """Another pose of the front camera; its field of view, and so its intrinsics, stay."""

    fields = ("cam_pos", "cam_quat")

    def __init__(self, config: CameraJitter | CameraOrbit | CameraViews) -> None:
        self._config = config

    def bind(self, scene: Tabletop) -> None:
        camera, device = scene.model.camera(FRONT_CAMERA), scene.home_rad.device
        self._id = int(camera.id)
        self._position = torch.tensor(camera.pos, dtype=torch.float32, device=device)
        self._quat = torch.tensor(camera.quat, dtype=torch.float32, device=device)
        self._right, _, backward = matrix_from_quat(self._quat).unbind(-1)
        self._target = self._position - self._position[2] / backward[2] * backward

    def apply(self, world: World, layout: Layout, random: EpisodeRandom, mask: Bool[Tensor, " n"]) -> None:
        match self._config:
            case CameraJitter(translation_m=reach, rotation_rad=turn):
                position = self._position + draw(random, "camera_position", (-reach, reach), 3)
                turns = draw(random, "camera_rotation", (-turn, turn), 3)
                axes = torch.eye(3, device=turns.device)
                quat = self._quat.expand(len(random), 4)
                for i in range(3):
                    quat = quat_multiply(quat, _about(axes[i], turns[:, i]))
            case CameraOrbit() as orbit:
                azimuth, roll = (
                    draw(random, f"camera_{name}", span)[:, 0] * _sign(random, f"camera_{name}_side")[:, 0]
                    for name, span in (("azimuth", orbit.azimuth_rad), ("roll", orbit.roll_rad))
                )
                elevation = draw(random, "camera_elevation", orbit.elevation_rad)[:, 0]
                distance = draw(random, "camera_distance", orbit.distance)[:, 0]
                position, quat = self._around(azimuth, elevation, distance, roll)
            case CameraViews(azimuths_rad=views):
                known = torch.tensor(views, dtype=torch.float32, device=random.device)
                azimuth = known[random.integers("camera_view", 1, len(views))[:, 0]]
                position, quat = self._around(azimuth, 0 * azimuth, 1 + 0 * azimuth, 0 * azimuth)
        world.set_field("cam_pos", [self._id], position[:, None], mask)
        world.set_field("cam_quat", [self._id], quat[:, None], mask)

    def _around(
        self,
        azimuth_rad: Float[Tensor, " n"],
        elevation_rad: Float[Tensor, " n"],
        distance: Float[Tensor, " n"],
        roll_rad: Float[Tensor, " n"],
    ) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 4"]]:
        """The pose carried around the target: up about its own right axis, then about the vertical."""
        z = torch.tensor([0.0, 0.0, 1.0], device=self._quat.device)
        carried = quat_multiply(_about(z, azimuth_rad), _about(self._right, -elevation_rad))
        arm = (matrix_from_quat(carried) @ (self._position - self._target)[:, None]).squeeze(-1)
        quat = quat_multiply(quat_multiply(carried, self._quat.expand_as(carried)), _about(z, roll_rad))
        return self._target + distance[:, None] * arm, quat


class Lamp(Effect):
    """Another colour, strength or direction of the lamp; the light that goes with the cameras stays."""

    def __init__(self, config: LampColour | LampShift) -> None:
        self._config = config
        self.fields = ("light_diffuse",) if isinstance(config, LampColour) else ("light_diffuse", "light_dir")

    def bind(self, scene: Tabletop) -> None:
        model, device = scene.model, scene.home_rad.device
        self._id = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_LIGHT, LAMP)
        self._diffuse = torch.tensor(model.light_diffuse[self._id], dtype=torch.float32, device=device)
        self._direction = torch.tensor(model.light_dir[self._id], dtype=torch.float32, device=device)

    def apply(self, world: World, layout: Layout, random: EpisodeRandom, mask: Bool[Tensor, " n"]) -> None:
        match self._config:
            case LampColour(rgb=span):
                diffuse = draw(random, "lamp_rgb", span, 3)
            case LampShift() as config:
                diffuse = self._diffuse + draw(random, "lamp_shift", config.shift, 3) * _sign(random, "lamp_side", 3)
                tilt, heading = draw(random, "lamp_tilt", config.tilt_rad), draw(random, "lamp_heading", (0.0, 6.2832))
                axis = torch.cat((heading.cos(), heading.sin(), torch.zeros_like(heading)), -1)
                turned = matrix_from_quat(_about(axis, tilt[:, 0])) @ self._direction
                world.set_field("light_dir", [self._id], turned[:, None], mask)
        world.set_field("light_diffuse", [self._id], diffuse[:, None], mask)


def _sign(random: EpisodeRandom, name: str, k: int = 1) -> Float[Tensor, "n k"]:
    return 2.0 * random.integers(name, k, 2) - 1


def _about(axis: Float[Tensor, "... 3"], angle_rad: Float[Tensor, " n"]) -> Float[Tensor, "n 4"]:
    """The quaternion of a turn about a unit vector."""
    half = angle_rad[:, None] / 2
    return torch.cat((half.cos(), half.sin() * axis), -1)

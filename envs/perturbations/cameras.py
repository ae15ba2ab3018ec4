"""Where the cameras are mounted, and how wide the front one sees."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from envs.perturbations.effect import Effect, draw, read, sign, sometimes
from envs.perturbations.running import Running
from envs.perturbations.spec import CameraJitter, CameraOrbit, CameraViews, FieldOfView, Perturbation
from envs.random import EpisodeRandom
from envs.rotations import matrix_from_quat, quat_about, quat_multiply
from envs.scenes.layout import Layout
from envs.scenes.tabletop import FRONT_CAMERA, Tabletop
from envs.world import World

Poses = tuple[Float[Tensor, "n 3"], Float[Tensor, "n 4"]]


class FrontCamera(Effect):
    """Another pose of the front camera; its field of view, and so its intrinsics, stay."""

    fields = ("cam_pos", "cam_quat")

    def __init__(self, config: CameraJitter | CameraOrbit | CameraViews, given: Perturbation) -> None:
        self._config, self._given = config, given

    def bind(self, scene: Tabletop) -> None:
        model, device = scene.model, scene.home_rad.device
        self._id = int(model.camera(FRONT_CAMERA).id)
        self._position, self._quat = (read(model, name, device)[self._id] for name in self.fields)
        self._right, _, backward = matrix_from_quat(self._quat).unbind(-1)
        self._target = self._position - self._position[2] / backward[2] * backward

    def apply(self, world: World, layout: Layout, random: EpisodeRandom, worlds: Int[Tensor, " k"]) -> None:
        position, quat = self._pose(random)
        position = sometimes(self._given, "camera", random, position, self._position)
        quat = sometimes(self._given, "camera", random, quat, self._quat)
        world.set_field("cam_pos", [self._id], position[:, None], worlds)
        world.set_field("cam_quat", [self._id], quat[:, None], worlds)

    def _pose(self, random: EpisodeRandom) -> Poses:
        match self._config:
            case CameraJitter() as jitter:
                return _jittered(self._position, self._quat, jitter, random, "camera")
            case CameraOrbit() as orbit:
                azimuth, roll = (
                    draw(random, f"camera_{name}", span)[:, 0] * sign(random, f"camera_{name}_side")[:, 0]
                    for name, span in (("azimuth", orbit.azimuth_rad), ("roll", orbit.roll_rad))
                )
                elevation = draw(random, "camera_elevation", orbit.elevation_rad)[:, 0]
                distance = draw(random, "camera_distance", orbit.distance)[:, 0]
                return self._around(azimuth, elevation, distance, roll)
            case CameraViews(azimuths_rad=views):
                known = torch.tensor(views, dtype=torch.float32, device=random.device)
                azimuth = known[random.integers("camera_view", 1, len(views))[:, 0]]
                return self._around(azimuth, 0 * azimuth, 1 + 0 * azimuth, 0 * azimuth)

    def _around(
        self,
        azimuth_rad: Float[Tensor, " n"],
        elevation_rad: Float[Tensor, " n"],
        distance: Float[Tensor, " n"],
        roll_rad: Float[Tensor, " n"],
    ) -> Poses:
        """The pose carried around the target: up about its own right axis, then about the vertical."""
        z = torch.tensor([0.0, 0.0, 1.0], device=self._quat.device)
        carried = quat_multiply(quat_about(z, azimuth_rad), quat_about(self._right, -elevation_rad))
        arm = (matrix_from_quat(carried) @ (self._position - self._target)[:, None]).squeeze(-1)
        quat = quat_multiply(quat_multiply(carried, self._quat.expand_as(carried)), quat_about(z, roll_rad))
        return self._target + distance[:, None] * arm, quat


class WristCamera(Effect):
    """Another mounting pose of the camera on the arm."""

    fields = ("cam_pos", "cam_quat")

    def __init__(self, config: CameraJitter, given: Perturbation) -> None:
        self._config, self._given = config, given

    def bind(self, scene: Tabletop) -> None:
        model, device = scene.model, scene.home_rad.device
        self._ids = [int(model.camera(scene.arm.prefix + name).id) for name in scene.arm.cameras]
        self._position, self._quat = (read(model, name, device)[self._ids] for name in self.fields)

    def apply(self, world: World, layout: Layout, random: EpisodeRandom, worlds: Int[Tensor, " k"]) -> None:
        for i, camera in enumerate(self._ids):
            built = self._position[i], self._quat[i]
            moved = _jittered(*built, self._config, random, f"wrist_camera{i}")
            for field, drawn, as_built in zip(self.fields, moved, built, strict=True):
                chosen = sometimes(self._given, "wrist_camera", random, drawn, as_built)
                world.set_field(field, [camera], chosen[:, None], worlds)


class Lens(Effect, Running):
    """Another field of view of the front camera."""

    fields = ("cam_fovy",)

    def __init__(self, config: FieldOfView, given: Perturbation) -> None:
        super().__init__()
        self._config, self._given = config, given

    def bind(self, scene: Tabletop) -> None:
        camera = scene.model.camera(FRONT_CAMERA)
        self._id, self._fovy_deg = int(camera.id), float(camera.fovy[0])

    def apply(self, world: World, layout: Layout, random: EpisodeRandom, worlds: Int[Tensor, " k"]) -> None:
        fovy_deg = self._fovy_deg * self.drawn(random)["factor"]
        world.set_field("cam_fovy", [self._id], fovy_deg[:, None], worlds)

    def drawn(self, random: EpisodeRandom) -> dict[str, Tensor]:
        factor = draw(random, "field_of_view", self._config.factor)[:, 0]
        return {"factor": sometimes(self._given, "field_of_view", random, factor, 1.0)}

    def intrinsics(self, built: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 3 3"]:
        """The pinhole matrices of the running episodes instead of those ``built``: other focal lengths."""
        half_rad = torch.deg2rad(torch.tensor(self._fovy_deg / 2, device=built.device))
        longer = half_rad.tan() / (half_rad * self.numbers["factor"]).tan()
        return built * torch.stack((longer, longer, torch.ones_like(longer)), -1)[:, None]


def _jittered(
    position: Float[Tensor, " 3"], quat: Float[Tensor, " 4"], jitter: CameraJitter, random: EpisodeRandom, name: str
) -> Poses:
    """Moved along and turned about the camera's own axes."""
    reach, turn = jitter.translation_m, jitter.rotation_rad
    way = draw(random, f"{name}_position", (-reach, reach), 3)
    turns = draw(random, f"{name}_rotation", (-turn, turn), 3)
    turned = quat.expand(len(random), 4)
    for axis, angle in zip(torch.eye(3, device=random.device), turns.unbind(-1), strict=True):
        turned = quat_multiply(turned, quat_about(axis, angle))
    return position + way @ matrix_from_quat(quat).mT, turned

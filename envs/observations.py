"""From what the simulator knows to what a policy may see."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.rotations import matrix_from_quat
from envs.scenes.layout import Layout
from envs.scenes.tabletop import Sensed, Tabletop
from envs.specs import (
    STATE_KEY,
    CameraSpec,
    EmbodimentSpec,
    depth_key,
    extrinsics_key,
    image_key,
    intrinsics_key,
    segmentation_key,
)
from envs.world import RenderConfig, World


class Observer:
    """Builds observations, by the keys of ``envs.specs``, of a scene's worlds; without pictures if there is no
    camera in ``render``.
    """

    def __init__(self, scene: Tabletop, world: World, render: RenderConfig) -> None:
        self._world, self._render = world, render
        arm = scene.arm
        height, width = render.height_px, render.width_px
        self.embodiment = EmbodimentSpec(
            name=arm.name,
            control_rate_hz=arm.control_rate_hz,
            state=arm.state_dimensions(),
            action=arm.action_dimensions(),
            cameras=tuple(
                CameraSpec(
                    name=_short(name),
                    height_px=height,
                    width_px=width,
                    depth=render.depth,
                    segmentation=render.segmentation,
                )
                for name in render.cameras
            ),
        )
        self._intrinsics = {
            name: _pinhole(float(scene.model.camera(name).fovy[0]), height, width).to(world.device)
            for name in render.cameras
        }

    def observe(self, sensed: Sensed, fresh: Bool[Tensor, " n"]) -> dict[str, Any]:
        """State, pictures and cameras of every world; only worlds of ``fresh`` are drawn anew."""
        axes = sensed.tool_rotation[:, :, :2].mT.flatten(1)
        state = torch.cat((sensed.tool_position, axes, sensed.gap[:, None], sensed.joints_rad), -1)
        observation: dict[str, Any] = {STATE_KEY: state}
        if not self._render.cameras:
            return observation
        for name, seen in self._world.render(fresh).items():
            camera = _short(name)
            observation[image_key(camera)] = seen.rgb
            if seen.depth_m is not None:
                observation[depth_key(camera)] = seen.depth_m
            if seen.segmentation is not None:
                observation[segmentation_key(camera)] = seen.segmentation
            observation[intrinsics_key(camera)] = self._intrinsics[name].expand(len(state), 3, 3)
            observation[extrinsics_key(camera)] = seen.T_world_cam
        return observation


def privileged_state(sensed: Sensed, layout: Layout) -> Float[Tensor, "n e"]:
    """What decides the task, without having to look: by role, in order, the thing's position (m, world), the x and y
    axes of its frame and its opening; then every number that was drawn for the episode.
    """
    parts = []
    for role in layout.roles:
        axes = matrix_from_quat(layout.of(sensed.quat, role))[:, :, :2].mT.flatten(1)
        parts += [layout.of(sensed.position, role), axes, layout.of(sensed.opening, role)[:, None]]
    parts += [drawn.reshape(len(layout), -1).to(torch.float32) for drawn in layout.draws.values()]
    return torch.cat(parts, -1)


def _short(camera: str) -> str:
    """A camera's name without the robot's prefix."""
    return camera.rpartition("/")[2]


def _pinhole(fovy_deg: float, height_px: int, width_px: int) -> Float[Tensor, "3 3"]:
    """K of a MuJoCo camera: square pixels, principal point at the image's centre."""
    focal = 0.5 * height_px / torch.tan(torch.deg2rad(torch.tensor(fovy_deg / 2))).item()
    return torch.tensor([[focal, 0.0, width_px / 2], [0.0, focal, height_px / 2], [0.0, 0.0, 1.0]])

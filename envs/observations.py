"""From what the simulator knows to what a policy may see."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.constants import constant
from envs.control.modes import GRIPPER, MODES, REACH_M, axes_dimensions, pose_parts
from envs.control.servo import ToolPose
from envs.props.colours import COLOURS
from envs.rotations import matrix_from_quat
from envs.scenes.layout import Layout
from envs.scenes.tabletop import Sensed, Tabletop
from envs.specs import (
    COMMAND_KEY,
    ENVIRONMENT_STATE_KEY,
    STATE_KEY,
    CameraSpec,
    Dimension,
    EmbodimentSpec,
    depth_key,
    extrinsics_key,
    image_key,
    intrinsics_key,
    segmentation_key,
)
from envs.world import RenderConfig, World


class Observer:
    """Builds observations, by the keys of ``envs.specs``, of a scene's worlds: pictures if there is a camera in
    ``render``, the joints' ``velocities`` in the state and the ``privileged`` state where they are wanted.
    """

    def __init__(
        self, scene: Tabletop, world: World, render: RenderConfig, *, velocities: bool = False, privileged: bool = False
    ) -> None:
        self._world, self._render = world, render
        self._velocities, self._privileged = velocities, privileged
        self._gripper_open_m = scene.arm.opening_m / 2
        self.embodiment = describe(scene, render, velocities)
        height, width = render.height_px, render.width_px
        self._intrinsics = {
            name: _pinhole(float(scene.model.camera(name).fovy[0]), height, width).to(world.device)
            for name in render.cameras
        }

    def observe(self, sensed: Sensed, pose: ToolPose, layout: Layout, fresh: Bool[Tensor, " n"]) -> dict[str, Any]:
        """State, command, pictures and cameras of every world; only worlds of ``fresh`` are drawn anew."""
        parts = [*pose_parts(sensed.tool), sensed.gap[:, None], sensed.joints_rad]
        closed = 1 - self._world.command[:, -1:] / self._gripper_open_m
        observation: dict[str, Any] = {
            STATE_KEY: torch.cat([*parts, sensed.joints_rad_s] if self._velocities else parts, -1),
            COMMAND_KEY: torch.cat((*pose_parts(pose), closed), -1),
        }
        if self._privileged:
            observation[ENVIRONMENT_STATE_KEY] = privileged_state(sensed, layout)
        if not self._render.cameras:
            return observation
        for name, seen in self._world.render(fresh).items():
            camera = _short(name)
            observation[image_key(camera)] = seen.rgb
            if seen.depth_m is not None:
                observation[depth_key(camera)] = seen.depth_m
            if seen.segmentation is not None:
                observation[segmentation_key(camera)] = seen.segmentation
            observation[intrinsics_key(camera)] = self._intrinsics[name].repeat(len(sensed.gap), 1, 1)
            observation[extrinsics_key(camera)] = seen.T_world_cam
        return observation


def describe(scene: Tabletop, render: RenderConfig, velocities: bool = False) -> EmbodimentSpec:
    """What the scene's robot senses and obeys."""
    arm = scene.arm
    limits = [[float(side) for side in pair] for pair in scene.joint_limits_rad.tolist()]
    joints = [
        Dimension(name=name, unit="rad", low=low, high=high, frame="joint")
        for name, (low, high) in zip(arm.joints, limits, strict=True)
    ]
    state = (
        *(Dimension(name=f"tool_{axis}", unit="m", low=-REACH_M, high=REACH_M) for axis in "xyz"),
        *axes_dimensions(),
        Dimension(name="gripper_gap", unit="m", low=0.0, high=arm.opening_m, frame="gripper"),
        *(replace(joint, low=joint.low - _SOFT_RAD, high=joint.high + _SOFT_RAD) for joint in joints),
    )
    if velocities:
        state += tuple(
            Dimension(name=f"{name}_velocity", unit="rad/s", low=-_FASTEST_RAD_S, high=_FASTEST_RAD_S, frame="joint")
            for name in arm.joints
        )
    return EmbodimentSpec(
        name=arm.name,
        control_rate_hz=arm.control_rate_hz,
        state=state,
        action=(*MODES[arm.control].dimensions(arm.servo, joints), GRIPPER),
        cameras=tuple(
            CameraSpec(
                name=_short(name),
                height_px=render.height_px,
                width_px=render.width_px,
                depth=render.depth,
                segmentation=render.segmentation,
            )
            for name in render.cameras
        ),
    )


_SOFT_RAD = 0.2
"""Joints' limits give way a little."""
_FASTEST_RAD_S = 20.0


def privileged_state(sensed: Sensed, layout: Layout) -> Float[Tensor, "n e"]:
    """What decides the task, without having to look.

    For each thing that the instruction names (by role, in order) its position (m, world), the x and y axes of its
    frame, its opening and whether it is held. Where it names none, every thing, each also with its colour (RGB) and
    whether it is there. Then every number that was drawn for the episode, and what it remembers.
    """
    axes = matrix_from_quat(sensed.quat)[..., :2].mT.flatten(2)
    held = sensed.held[..., None].float()
    things = torch.cat((sensed.position, axes, sensed.opening[..., None], held), -1)
    if layout.roles:
        parts = [layout.of(things, role) for role in layout.roles]
    else:
        colour = constant([(*rgb,) for rgb in COLOURS.values()], things.device)[layout.colour]
        present = layout.present[..., None].float()
        parts = [torch.cat((things * present, colour * present, present), -1).flatten(1)]
    numbers = (*layout.draws.values(), *layout.memory.values())
    return torch.cat([*parts, *(each.reshape(len(layout), -1).to(torch.float32) for each in numbers)], -1)


def _short(camera: str) -> str:
    """A camera's name without the robot's prefix."""
    return camera.rpartition("/")[2]


def _pinhole(fovy_deg: float, height_px: int, width_px: int) -> Float[Tensor, "3 3"]:
    """K of a MuJoCo camera: square pixels, principal point at the image's centre."""
    focal = 0.5 * height_px / torch.tan(torch.deg2rad(torch.tensor(fovy_deg / 2))).item()
    return torch.tensor([[focal, 0.0, width_px / 2], [0.0, focal, height_px / 2], [0.0, 0.0, 1.0]])

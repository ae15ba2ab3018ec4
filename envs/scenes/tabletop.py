"""A table with an arm and the things of a task: how it is built, arranged and sensed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mujoco
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.kinematics import SerialChain
from envs.props.base import Prop
from envs.props.colours import COLOURS
from envs.robots.arm import ArmSpec
from envs.scenes.layout import Layout
from envs.world import World

FRONT_CAMERA, LAMP = "front", "lamp"
TABLE, TABLE_TOP, FLOOR = "table", "table_top", "floor"
"""What is seen of the table, what things stand on, and what is around it."""
_PARKED_M = (-20.0, 0.0, 1.0)
_PARKED_SPACING_M = 0.3


@dataclass(frozen=True, kw_only=True)
class Sensed:
    """What the simulator knows after a step; metres, radians, world frame, quaternions wxyz.

    ``gap`` is the distance between the fingers, ``joints_rad`` the arm's angles. ``position`` and ``quat`` are the
    things' by slot, ``opening`` is where the moving part of a jointed one is (0 for others).
    """

    tool_position: Float[Tensor, "n 3"]
    tool_rotation: Float[Tensor, "n 3 3"]
    gap: Float[Tensor, " n"]
    joints_rad: Float[Tensor, "n j"]
    position: Float[Tensor, "n k 3"]
    quat: Float[Tensor, "n k 4"]
    opening: Float[Tensor, "n k"]


class Tabletop:
    """The compiled scene: knows where each thing lives in ``qpos`` and in the model's fields."""

    fields = ("geom_rgba", "body_gravcomp", "body_pos", "body_quat")
    """Fields of the model that :meth:`arrange` sets per world."""

    def __init__(
        self, arm: ArmSpec, props: Sequence[Prop], finish: Callable[[mujoco.MjSpec], None] | None = None
    ) -> None:
        """``finish`` may add to the scene before it is compiled."""
        self.arm, self.props = arm, tuple(props)
        spec = mujoco.MjSpec.from_file(str(Path(__file__).parent / "tabletop.xml"))
        arm.attach_to(spec)
        for prop in self.props:
            prop.add_to(spec)
        if finish is not None:
            finish(spec)
        self.model = spec.compile()
        self.cameras = (FRONT_CAMERA, *(arm.prefix + camera for camera in arm.cameras))

    def bind(self, world: World) -> None:
        """Look up addresses for a world made from ``self.model``."""
        arm, model, device = self.arm, self.model, world.device
        joints = [arm.prefix + joint for joint in arm.joints]
        self.chain = SerialChain(model, joints, arm.prefix + arm.tool_site, device)
        self._joints = torch.tensor([world.joint_address(joint) for joint in joints], device=device)
        self._fingers = torch.tensor([world.joint_address(arm.prefix + f) for f in arm.fingers], device=device)
        limits = torch.tensor(model.jnt_range[[model.joint(j).id for j in joints]], dtype=torch.float32)
        self.joint_limits_rad = limits.to(device)
        self.home_rad = torch.tensor(arm.home_rad, device=device)

        def slots(*motions: str) -> list[int]:
            return [slot for slot, prop in enumerate(self.props) if prop.motion in motions]

        def addresses(of: list[int], width: int) -> Tensor:
            starts = [world.joint_address(self.props[slot].name) for slot in of]
            table = torch.tensor(starts, dtype=torch.long)[:, None] + torch.arange(width)
            return table.to(device)

        free, jointed, standing = slots("free"), slots("jointed"), slots("fixed", "jointed")
        self._free_qpos = addresses(free, 7)
        self._jointed_qpos = addresses(jointed, 1)[:, 0]
        self._free_bodies = [model.body(self.props[slot].name).id for slot in free]
        self._standing_bodies = [model.body(self.props[slot].name).id for slot in standing]
        # As tensors: a list as an index would be copied to the device at every step.
        self._free, self._jointed, self._standing = (
            torch.tensor(of, dtype=torch.long, device=device) for of in (free, jointed, standing)
        )
        painted = [(model.geom(name).id, slot) for slot, prop in enumerate(self.props) for name in prop.painted]
        self._painted_geoms = [geom for geom, _ in painted]
        self._painted_slots = [slot for _, slot in painted]
        self._palette = torch.tensor([(*rgb, 1.0) for rgb in COLOURS.values()], device=device)
        self._parked = torch.tensor(_PARKED_M, device=device).repeat(len(self.props), 1)
        self._parked[:, 1] = _PARKED_SPACING_M * torch.arange(len(self.props), device=device)
        self._rest = torch.tensor(model.qpos0, dtype=torch.float32, device=device)

    def arrange(
        self, world: World, layout: Layout, mask: Bool[Tensor, " n"], joints_rad: Float[Tensor, "n j"] | None = None
    ) -> None:
        """Start the worlds of ``mask`` at rest in ``layout``: arm at ``joints_rad`` (at home when None), gripper open,
        absent things out of sight.
        """
        joints_rad = self.home_rad.expand(world.num_worlds, -1) if joints_rad is None else joints_rad
        n, half_gap = world.num_worlds, self.arm.opening_m / 2
        qpos = self._rest.repeat(n, 1)
        qpos[:, self._joints] = joints_rad
        qpos[:, self._fingers] = half_gap
        position = torch.where(layout.present[..., None], layout.position, self._parked)
        if len(self._free):
            qpos[:, self._free_qpos] = torch.cat((position, layout.quat), -1)[:, self._free]
            weightless = (~layout.present[:, self._free]).float()
            world.set_field("body_gravcomp", self._free_bodies, weightless, mask)
        if len(self._standing):
            world.set_field("body_pos", self._standing_bodies, position[:, self._standing], mask)
            world.set_field("body_quat", self._standing_bodies, layout.quat[:, self._standing], mask)
        if len(self._jointed):
            qpos[:, self._jointed_qpos] = layout.opening[:, self._jointed]
        world.set_field("geom_rgba", self._painted_geoms, self._palette[layout.colour[:, self._painted_slots]], mask)
        opening = torch.full((n, 1), half_gap, device=world.device)
        world.reset(qpos, torch.cat((joints_rad, opening), -1), mask)

    def sense(self, world: World, layout: Layout) -> Sensed:
        """Read the tool, the fingers and the things."""
        qpos = world.qpos
        joints = qpos[:, self._joints]
        tool_position, tool_rotation = self.chain.pose(joints)
        position, quat, opening = layout.position.clone(), layout.quat.clone(), layout.opening.clone()
        if len(self._free):
            pose = qpos[:, self._free_qpos]
            position[:, self._free], quat[:, self._free] = pose[..., :3], pose[..., 3:]
        if len(self._jointed):
            opening[:, self._jointed] = qpos[:, self._jointed_qpos]
        return Sensed(
            tool_position=tool_position,
            tool_rotation=tool_rotation,
            gap=qpos[:, self._fingers].sum(-1),
            joints_rad=joints,
            position=position,
            quat=quat,
            opening=opening,
        )

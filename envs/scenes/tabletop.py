"""A table with an arm and the things of a task: how it is built, arranged and sensed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import mujoco
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.batch import Batch
from envs.control.servo import ToolPose
from envs.kinematics import SerialChain
from envs.props.base import Prop
from envs.props.colours import COLOURS
from envs.robots.arm import ArmSpec
from envs.robots.grippers import GripperSpec
from envs.scenes.layout import Layout
from envs.world import TOUCH_PREFIX, World

FRONT_CAMERA, LAMP = "front", "lamp"
TABLE, TABLE_TOP, FLOOR = "table", "table_top", "floor"
"""What is seen of the table, what things stand on, and what is around it."""
STILL_M_S, STILL_RAD_S = 0.02, 0.3
"""What is slower is at rest."""
_PARKED_M = (-20.0, 0.0, 1.0)
_PARKED_SPACING_M = 0.3


@dataclass(frozen=True, kw_only=True)
class Sensed(Batch):
    """What the simulator knows after a step; metres, radians, seconds, world frame, quaternions wxyz.

    ``gap`` is the distance between the fingers, ``joints_rad`` the arm's angles. ``position`` and ``quat`` are the
    things' by slot, ``opening`` is where the moving part of a jointed one is (0 for others). ``speed_m_s`` is how fast
    things move, ``spin_rad_s`` how fast they turn, ``opening_speed`` how fast moving parts do, all of them on average
    over the last control step: a thing in contact trembles, on some engines more than on others.
    ``touched`` says whether any of the robot touches a thing (or its moving part), its left finger, and its right one.
    ``gripper`` says what its fingers are like.
    """

    gripper: GripperSpec
    tool_position: Float[Tensor, "n 3"]
    tool_rotation: Float[Tensor, "n 3 3"]
    gap: Float[Tensor, " n"]
    joints_rad: Float[Tensor, "n j"]
    joints_rad_s: Float[Tensor, "n j"]
    position: Float[Tensor, "n k 3"]
    quat: Float[Tensor, "n k 4"]
    opening: Float[Tensor, "n k"]
    speed_m_s: Float[Tensor, "n k"]
    spin_rad_s: Float[Tensor, "n k"]
    opening_speed: Float[Tensor, "n k"]
    touched: Bool[Tensor, "n k 3"]

    @cached_property
    def tool(self) -> ToolPose:
        """Where the tool is."""
        return ToolPose(position=self.tool_position, rotation=self.tool_rotation)

    @cached_property
    def held(self) -> Bool[Tensor, "n k"]:
        """Which things are between the fingers, touching both."""
        return self.touched[..., 1:].all(-1)

    @cached_property
    def let_go(self) -> Bool[Tensor, "n k"]:
        """Which things the robot does not touch."""
        return ~self.touched[..., 0]

    @cached_property
    def at_rest(self) -> Bool[Tensor, "n k"]:
        """Which things neither move nor turn, nor do their parts (m/s, or rad/s for one on a hinge)."""
        still = (self.speed_m_s < STILL_M_S) & (self.spin_rad_s < STILL_RAD_S)
        return still & (self.opening_speed.abs() < STILL_M_S)

    @cached_property
    def left_alone(self) -> Bool[Tensor, "n k"]:
        """Which things are at rest without the robot's touch: they stay where they are."""
        return self.at_rest & self.let_go


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
        _add_touch_sensors(spec, arm, self.props)
        self.model = spec.compile()
        self.cameras = (FRONT_CAMERA, *(arm.prefix + camera for camera in arm.cameras))

    def bind(self, world: World) -> None:
        """Look up addresses for a world made from ``self.model``."""
        arm, model, device = self.arm, self.model, world.device
        joints = [arm.prefix + joint for joint in arm.joints]
        self.chain = SerialChain(model, joints, arm.prefix + arm.tool_site, device)
        self._joints = _columns([world.joint_address(joint) for joint in joints], device)
        self._fingers = _columns([world.joint_address(arm.prefix + finger) for finger in arm.fingers], device)
        self._joint_velocities = _columns([world.velocity_address(joint) for joint in joints], device)
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
        self._free_columns = _columns(self._free_qpos.flatten().tolist(), device)
        self._jointed_qpos = addresses(jointed, 1)[:, 0]
        self._free_bodies = [model.body(self.props[slot].name).id for slot in free]
        self._standing_bodies = [model.body(self.props[slot].name).id for slot in standing]
        painted = [(model.geom(name).id, slot) for slot, prop in enumerate(self.props) for name in prop.painted]
        self._painted_geoms = [geom for geom, _ in painted]
        # As tensors: a list as an index would be copied to the device at every step.
        self._free, self._jointed, self._standing, self._painted_slots = (
            torch.tensor(of, dtype=torch.long, device=device)
            for of in (free, jointed, standing, [slot for _, slot in painted])
        )
        self._is_free = torch.tensor([prop.motion == "free" for prop in self.props], device=device)[:, None]
        self._palette = torch.tensor([(*rgb, 1.0) for rgb in COLOURS.values()], device=device)
        self._parked = torch.tensor(_PARKED_M, device=device).repeat(len(self.props), 1)
        self._parked[:, 1] = _PARKED_SPACING_M * torch.arange(len(self.props), device=device)
        self._rest = torch.tensor(model.qpos0, dtype=torch.float32, device=device)
        self._half_gap = torch.tensor([arm.opening_m / 2], device=device)
        self._qpos_from = self._sources()
        self._home_tool = self.chain.pose(self.home_rad[None])

    def _sources(self) -> Int[Tensor, " q"]:
        """Where each coordinate of a starting world comes from, among what :meth:`arrange` puts side by side."""
        joints, slots = len(self._rest), len(self.props)
        gap = joints + len(self.home_rad)
        poses = gap + 1
        sources = torch.arange(joints, device=self._rest.device)
        sources[self._joints] = torch.arange(joints, gap, device=sources.device)
        sources[self._fingers] = gap
        sources[self._free_qpos] = poses + 7 * self._free[:, None] + torch.arange(7, device=sources.device)
        sources[self._jointed_qpos] = poses + 7 * slots + self._jointed
        return sources

    def arrange(
        self, world: World, layout: Layout, worlds: Int[Tensor, " k"], joints_rad: Float[Tensor, "k j"] | None = None
    ) -> Sensed:
        """Start k ``worlds`` at rest in ``layout``, which has k rows: the arm at ``joints_rad`` (at home when None),
        the gripper open, absent things out of sight. Returns what is sensed there, as :meth:`sense` would.
        """
        k = len(layout)
        tool_position, tool_rotation = self._home_tool if joints_rad is None else self.chain.pose(joints_rad)
        joints_rad = self.home_rad.expand(k, -1) if joints_rad is None else joints_rad
        half_gap, places = self._half_gap.expand(k, 1), self._places(layout)
        poses = torch.cat((places, layout.quat), -1).flatten(1)
        known = torch.cat((self._rest.expand(k, -1), joints_rad, half_gap, poses, layout.opening), -1)
        if len(self._free):
            weightless = (~layout.present[:, self._free]).float()
            world.set_field("body_gravcomp", self._free_bodies, weightless, worlds)
        self._stand(world, layout, places, worlds)
        world.set_field("geom_rgba", self._painted_geoms, self._palette[layout.colour[:, self._painted_slots]], worlds)
        world.put(worlds, known[:, self._qpos_from], torch.cat((joints_rad, half_gap), -1))
        still = torch.zeros_like(layout.opening)
        return Sensed(
            gripper=self.arm.gripper,
            tool_position=tool_position.expand(k, -1),
            tool_rotation=tool_rotation.expand(k, -1, -1),
            gap=half_gap[:, 0] * len(self.arm.fingers),
            joints_rad=joints_rad,
            joints_rad_s=torch.zeros_like(joints_rad),
            position=torch.where(self._is_free, places, layout.position),
            quat=layout.quat,
            opening=layout.opening,
            speed_m_s=still,
            spin_rad_s=still,
            opening_speed=still,
            touched=torch.zeros(k, len(self.props), len(_TOUCHERS), dtype=torch.bool, device=world.device),
        )

    def rearrange(self, world: World, layout: Layout, worlds: Int[Tensor, " k"] | None = None) -> None:
        """Put the things that stand (those no joint carries) where ``layout`` says, in the midst of an episode too."""
        self._stand(world, layout, self._places(layout), worlds)

    def _stand(
        self, world: World, layout: Layout, places: Float[Tensor, "k m 3"], worlds: Int[Tensor, " k"] | None
    ) -> None:
        if len(self._standing):
            world.set_field("body_pos", self._standing_bodies, places[:, self._standing], worlds)
            world.set_field("body_quat", self._standing_bodies, layout.quat[:, self._standing], worlds)

    def sense(self, world: World, layout: Layout, before: Sensed | None = None) -> Sensed:
        """Read the tool, the fingers and the things of all worlds.

        ``before`` is what was sensed a control step ago; without it everything is at rest.
        """
        qpos, qvel = world.qpos, world.qvel
        joints = qpos[:, self._joints]
        tool_position, tool_rotation = self.chain.pose(joints)
        poses = qpos[:, self._free_columns].unflatten(1, (-1, 7)) if len(self._free) else None
        opening = layout.opening
        if len(self._jointed):
            opening = opening.index_copy(1, self._jointed, qpos[:, self._jointed_qpos])
        return Sensed(
            gripper=self.arm.gripper,
            tool_position=tool_position,
            tool_rotation=tool_rotation,
            gap=qpos[:, self._fingers].sum(-1),
            joints_rad=joints,
            joints_rad_s=qvel[:, self._joint_velocities],
            opening=opening,
            touched=world.touches.unflatten(1, (len(self.props), len(_TOUCHERS))),
            **self._moving(layout, poses, opening, before),
        )

    def sensed_anew(self, sensed: Sensed, layout: Layout, before: Sensed | None) -> Sensed:
        """``sensed`` after a :meth:`rearrange` to ``layout``, for which nothing else has moved."""
        poses = torch.cat((sensed.position, sensed.quat), -1)[:, self._free] if len(self._free) else None
        return replace(sensed, **self._moving(layout, poses, sensed.opening, before))

    def _moving(
        self,
        layout: Layout,
        poses: Float[Tensor, "n f 7"] | None,
        opening: Float[Tensor, "n k"],
        before: Sensed | None,
    ) -> dict[str, Tensor]:
        """Where things are, the free ones at ``poses`` and the others as in ``layout``, and how fast all move."""
        position, quat = layout.position, layout.quat
        if poses is not None:
            position = position.index_copy(1, self._free, poses[..., :3])
            quat = quat.index_copy(1, self._free, poses[..., 3:])
        speed = spin = opening_speed = torch.zeros_like(opening)
        if before is not None:
            rate_hz = self.arm.control_rate_hz
            speed = (position - before.position).norm(dim=-1) * rate_hz
            spin = (quat - before.quat).norm(dim=-1) * (2 * rate_hz)
            if len(self._jointed):
                opening_speed = (opening - before.opening) * rate_hz
        return {
            "position": position,
            "quat": quat,
            "speed_m_s": speed,
            "spin_rad_s": spin,
            "opening_speed": opening_speed,
        }

    def _places(self, layout: Layout) -> Float[Tensor, "k m 3"]:
        """Where things are to be; those that are absent out of sight."""
        return torch.where(layout.present[..., None], layout.position, self._parked)


def _columns(addresses: Sequence[int], device: torch.device) -> slice | Int[Tensor, " m"]:
    """An index of some columns: a slice where one follows the other, because a view takes no operation."""
    first = addresses[0] if addresses else 0
    if list(addresses) == list(range(first, first + len(addresses))):
        return slice(first, first + len(addresses))
    return torch.tensor(addresses, device=device)


_TOUCHERS = ("robot", "left", "right")
"""What touches things, in the order of :attr:`Sensed.touched`."""


def _add_touch_sensors(spec: mujoco.MjSpec, arm: ArmSpec, props: Sequence[Prop]) -> None:
    """For each thing a sensor of contacts with the whole robot, with its left finger and with its right one."""
    left, right = (spec.joint(arm.prefix + finger).parent for finger in arm.fingers)
    base = left
    while base.parent.name != spec.worldbody.name:
        base = base.parent
    subtree, body = mujoco.mjtObj.mjOBJ_XBODY, mujoco.mjtObj.mjOBJ_BODY
    touchers = ((base, subtree), (left, body), (right, body))
    for prop in props:
        for name, (part, kind) in zip(_TOUCHERS, touchers, strict=True):
            sensor = spec.add_sensor(
                name=f"{TOUCH_PREFIX}{prop.name}/{name}",
                type=mujoco.mjtSensor.mjSENS_CONTACT,
                objtype=subtree,
                objname=prop.name,
                reftype=kind,
                refname=part.name,
            )
            sensor.intprm[:3] = (1, 0, 1)  # how many contacts were found, of one at most

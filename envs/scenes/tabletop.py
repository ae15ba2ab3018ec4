"""A table with an arm, coloured cubes and coloured bins: how it is built, arranged and sensed."""

from dataclasses import dataclass, fields
from pathlib import Path

import mujoco
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.kinematics import SerialChain
from envs.robots.arm import ArmSpec
from envs.rotations import quat_from_yaw
from envs.world import World

CUBE_COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.08, 0.08),
    "green": (0.10, 0.65, 0.15),
    "blue": (0.08, 0.20, 0.85),
    "yellow": (0.95, 0.85, 0.08),
    "purple": (0.55, 0.12, 0.70),
    "cyan": (0.10, 0.80, 0.85),
}
BIN_COLOURS: dict[str, tuple[float, float, float]] = {"white": (0.95, 0.95, 0.95), "black": (0.06, 0.06, 0.06)}

CUBE_HALF_M = 0.02
CUBE_MASS_KG = 0.05
BIN_HALF_M = 0.065
BIN_WALL_M = 0.03
_BIN_THICKNESS_M = 0.004
_PARKED_M = (0.0, 0.0, -5.0)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What was drawn for each world's episode; k cube slots, m bins.

    Positions are metres in the world. ``cube_present`` is False for slots this episode does not use. Colours index
    ``CUBE_COLOURS`` and ``BIN_COLOURS``. ``cube`` and ``bin`` are the slots that the instruction names;
    ``phrasing`` chooses its words.
    """

    cube_position: Float[Tensor, "n k 3"]
    cube_yaw_rad: Float[Tensor, "n k"]
    cube_colour: Int[Tensor, "n k"]
    cube_present: Bool[Tensor, "n k"]
    bin_position: Float[Tensor, "n m 3"]
    bin_colour: Int[Tensor, "n m"]
    cube: Int[Tensor, " n"]
    bin: Int[Tensor, " n"]
    phrasing: Float[Tensor, " n"]

    def updated(self, fresh: "Layout", mask: Bool[Tensor, " n"]) -> "Layout":
        """``fresh`` in the worlds of ``mask``, this layout elsewhere."""

        def choose(name: str) -> Tensor:
            old, new = getattr(self, name), getattr(fresh, name)
            return torch.where(mask.reshape(-1, *(1,) * (old.dim() - 1)), new, old)

        return Layout(**{f.name: choose(f.name) for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Sensed:
    """What the simulator knows after a step; metres, world frame.

    ``gap`` is the distance between the fingers; ``joints_rad`` are the arm's angles.
    """

    tool_position: Float[Tensor, "n 3"]
    tool_rotation: Float[Tensor, "n 3 3"]
    gap: Float[Tensor, " n"]
    joints_rad: Float[Tensor, "n j"]
    cube_position: Float[Tensor, "n k 3"]


class Tabletop:
    """The compiled scene: knows where each thing lives in ``qpos`` and in the model's fields."""

    def __init__(self, arm: ArmSpec, num_cubes: int, num_bins: int) -> None:
        self.arm, self.num_cubes, self.num_bins = arm, num_cubes, num_bins
        spec = mujoco.MjSpec.from_file(str(Path(__file__).parent / "tabletop.xml"))
        arm.attach_to(spec)
        for i in range(num_cubes):
            _add_cube(spec, f"cube{i}")
        for i in range(num_bins):
            _add_bin(spec, f"bin{i}")
        self.model = spec.compile()
        self.cameras = ("front", *(arm.prefix + camera for camera in arm.cameras))

    def bind(self, world: World) -> None:
        """Look up addresses for a world made from ``self.model``."""
        arm, model = self.arm, self.model
        joints = [arm.prefix + joint for joint in arm.joints]
        addresses = [world.joint_address(joint) for joint in joints]
        self.chain = SerialChain(model, joints, arm.prefix + arm.tool_site, world.device)
        self._joints = torch.tensor(addresses, device=world.device)
        self._fingers = torch.tensor([world.joint_address(arm.prefix + f) for f in arm.fingers], device=world.device)
        self._cubes = [world.joint_address(f"cube{i}") for i in range(self.num_cubes)]
        self._cube_geoms = [model.geom(f"cube{i}").id for i in range(self.num_cubes)]
        self._cube_bodies = [model.body(f"cube{i}").id for i in range(self.num_cubes)]
        self._bin_bodies = [model.body(f"bin{i}").id for i in range(self.num_bins)]
        self._bin_geoms = [[int(g) for g in _geoms_of(model, body)] for body in self._bin_bodies]
        limits = torch.tensor(model.jnt_range[[model.joint(j).id for j in joints]], dtype=torch.float32)
        self.joint_limits_rad = limits.to(world.device)
        self.home_rad = torch.tensor(arm.home_rad, device=world.device)
        self._palette = torch.tensor([(*rgb, 1.0) for rgb in CUBE_COLOURS.values()], device=world.device)
        self._bin_palette = torch.tensor([(*rgb, 1.0) for rgb in BIN_COLOURS.values()], device=world.device)

    def arrange(self, world: World, layout: Layout, mask: Bool[Tensor, " n"]) -> None:
        """Start the worlds of ``mask`` at rest in ``layout``: arm at home, gripper open, unused cubes out of sight."""
        n, device = world.num_worlds, world.device
        parked = torch.tensor(_PARKED_M, device=device) + torch.arange(self.num_cubes, device=device)[:, None] * 0.2
        qpos = torch.tensor(self.model.qpos0, dtype=torch.float32, device=device).repeat(n, 1)
        qpos[:, self._joints] = self.home_rad
        qpos[:, self._fingers] = self.arm.opening_m / 2
        position = torch.where(layout.cube_present[..., None], layout.cube_position, parked)
        quat = quat_from_yaw(layout.cube_yaw_rad)
        for i, address in enumerate(self._cubes):
            qpos[:, address : address + 3] = position[:, i]
            qpos[:, address + 3 : address + 7] = quat[:, i]
        opening = torch.full((n, 1), self.arm.opening_m / 2, device=device)
        command = torch.cat((self.home_rad.expand(n, -1), opening), -1)
        weightless = (~layout.cube_present).float()
        world.set_field("geom_rgba", self._cube_geoms, self._palette[layout.cube_colour], mask)
        world.set_field("body_gravcomp", self._cube_bodies, weightless, mask)
        if self.num_bins:
            world.set_field("body_pos", self._bin_bodies, layout.bin_position, mask)
            colours = self._bin_palette[layout.bin_colour]
            for i, geoms in enumerate(self._bin_geoms):
                world.set_field("geom_rgba", geoms, colours[:, i : i + 1].expand(-1, len(geoms), -1), mask)
        world.reset(qpos, command, mask)

    def sense(self, world: World) -> Sensed:
        """Read the tool, the fingers and the cubes."""
        qpos = world.qpos
        joints = qpos[:, self._joints]
        position, rotation = self.chain.pose(joints)
        cubes = torch.stack([qpos[:, address : address + 3] for address in self._cubes], 1)
        return Sensed(
            tool_position=position,
            tool_rotation=rotation,
            gap=qpos[:, self._fingers].sum(-1),
            joints_rad=joints,
            cube_position=cubes,
        )


def _add_cube(spec: mujoco.MjSpec, name: str) -> None:
    body = spec.worldbody.add_body(name=name, pos=_PARKED_M)
    body.add_freejoint(name=name)
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[CUBE_HALF_M] * 3,
        mass=CUBE_MASS_KG,
        condim=4,
        friction=[1.0, 0.02, 0.0001],
    )


def _add_bin(spec: mujoco.MjSpec, name: str) -> None:
    """An open box on the table; its walls are thin static boxes."""
    body = spec.worldbody.add_body(name=name)
    half, wall, thin = BIN_HALF_M, BIN_WALL_M, _BIN_THICKNESS_M
    panels = {
        "floor": ((0, 0, thin / 2), (half, half, thin / 2)),
        "far": ((half, 0, wall / 2), (thin, half, wall / 2)),
        "near": ((-half, 0, wall / 2), (thin, half, wall / 2)),
        "left": ((0, half, wall / 2), (half, thin, wall / 2)),
        "right": ((0, -half, wall / 2), (half, thin, wall / 2)),
    }
    for panel, (position, size) in panels.items():
        body.add_geom(name=f"{name}/{panel}", type=mujoco.mjtGeom.mjGEOM_BOX, pos=position, size=size)


def _geoms_of(model: mujoco.MjModel, body: int) -> range:
    return range(model.body_geomadr[body], model.body_geomadr[body] + model.body_geomnum[body])

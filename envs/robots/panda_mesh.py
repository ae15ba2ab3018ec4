"""The Panda as it really looks: robosuite's visual meshes on the bodies of the primitive one.

Bodies, joints, actuators and the geoms that collide are the primitive Panda's own, so that both move identically and
are one embodiment; the meshes are read from the installed robosuite and copied nowhere but into the user's cache.
"""

import importlib.util
from dataclasses import dataclass, fields
from pathlib import Path

import mujoco

from envs.robots.arm import ArmSpec
from envs.robots.meshes import Shell, decimated
from envs.robots.panda import PANDA

_HIDDEN_GROUP = 3  # no renderer draws it unless asked to
_VISUAL_GROUP = 1
_GRIPPER_MESHES = {
    "hand": ("hand_vis.stl", (1.0, 1.0, 1.0, 1.0)),
    "left_finger": ("finger_vis.stl", (0.5, 0.5, 0.5, 1.0)),
    "right_finger": ("finger_vis.stl", (0.5, 0.5, 0.5, 1.0)),
}


@dataclass(frozen=True, kw_only=True)
class MeshPandaSpec(ArmSpec):
    """The Panda dressed in meshes of at most ``face_budget`` triangles in all; None keeps the originals' 135,000."""

    face_budget: int | None = 10_000

    def build(self) -> mujoco.MjSpec:
        """As ``ArmSpec.build``; the first call decimates for some seconds.

        Raises ``ModuleNotFoundError`` that names the extra to install where robosuite or Open3D is missing.
        """
        shells = _robosuite_shells()
        if self.face_budget is not None:
            shells = decimated("panda", shells, self.face_budget)
        robot = super().build()
        for geom in robot.geoms:
            if geom.contype == 0 and geom.conaffinity == 0:
                robot.delete(geom)
            else:
                geom.group = _HIDDEN_GROUP
        for i, shell in enumerate(shells):
            _add_shell(robot, f"{shell.body}_shell{i}", shell)
        return robot


PANDA_MESH = MeshPandaSpec(**{f.name: getattr(PANDA, f.name) for f in fields(PANDA)})


def _add_shell(robot: mujoco.MjSpec, name: str, shell: Shell) -> None:
    robot.add_mesh(name=name, file=str(shell.file), inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL)
    robot.body(shell.body).add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname=name,
        rgba=shell.rgba,
        contype=0,
        conaffinity=0,
        group=_VISUAL_GROUP,
        mass=0,
    )


def _robosuite_shells() -> list[Shell]:
    """The visual meshes of robosuite's Panda; its links' frames are the primitive Panda's."""
    spec = importlib.util.find_spec("robosuite")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the mesh Panda needs robosuite's assets and Open3D: pip install 'vla-stack[robosuite,open3d]'",
            name="robosuite",
        )
    assets = Path(spec.submodule_search_locations[0]) / "models" / "assets"
    description = assets / "robots" / "panda" / "robot.xml"
    arm = mujoco.MjSpec.from_file(str(description))
    shells = [
        Shell(
            body=body.name,
            rgba=tuple(round(float(value), 2) for value in arm.material(geom.material).rgba),
            file=description.parent / arm.mesh(geom.meshname).file,
        )
        for body in arm.bodies
        for geom in body.geoms
        if geom.contype == 0 and geom.conaffinity == 0
    ]
    gripper = assets / "grippers" / "meshes" / "panda_gripper"
    return shells + [Shell(body=body, rgba=rgba, file=gripper / file) for body, (file, rgba) in _GRIPPER_MESHES.items()]

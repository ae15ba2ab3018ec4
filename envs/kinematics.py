"""Batched forward kinematics of a serial chain, read once from a compiled MuJoCo model.

The controller and the observations use this instead of the engine's own kinematics, so that one
piece of torch code serves every backend and nothing is copied off the device.
"""

from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import torch
from jaxtyping import Float
from torch import Tensor

from envs.rotations import matrix_from_quat


class ChainPose(NamedTuple):
    """Tip pose in the world, and its geometric Jacobian (rows: linear m/rad, then angular rad/rad)."""

    position: Float[Tensor, "n 3"]
    rotation: Float[Tensor, "n 3 3"]
    jacobian: Float[Tensor, "n 6 j"]


class SerialChain:
    """World → … → site through hinge joints, with fixed offsets folded between them."""

    def __init__(self, model: mujoco.MjModel, joints: Sequence[str], site: str, device: torch.device | str) -> None:
        site_id = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, site)
        if site_id < 0:
            raise KeyError(f"no site {site!r}; the scene has {[model.site(i).name for i in range(model.nsite)]}")
        bodies = _ancestry(model, model.site_bodyid[site_id])
        wanted = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name) for name in joints]
        offsets, found, current = [], [], torch.eye(4, dtype=torch.float64)
        for body in bodies:
            current = current @ _frame(model.body_pos[body], model.body_quat[body])
            for joint in range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body]):
                if joint not in wanted:
                    continue
                if not _is_plain_hinge(model, joint):
                    raise ValueError(
                        f"joint {model.joint(joint).name!r} must be a hinge about its body's z axis, zero at rest"
                    )
                found.append(joint)
                offsets.append(current)
                current = torch.eye(4, dtype=torch.float64)
        if found != wanted:
            names = [model.joint(joint).name for joint in found]
            raise ValueError(f"expected joints {list(joints)} in order from the world to site {site!r}, found {names}")
        offsets.append(current @ _frame(model.site_pos[site_id], model.site_quat[site_id]))
        stacked = torch.stack(offsets).to(device=device, dtype=torch.float32)
        self._rotation_offsets = stacked[:, :3, :3]
        self._position_offsets = stacked[:, :3, 3]

    def pose(self, joints_rad: Float[Tensor, "n j"]) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3 3"]]:
        """Tip position (m) and rotation in the world."""
        position, rotation, _, _ = self._sweep(joints_rad)
        return position, rotation

    def pose_and_jacobian(self, joints_rad: Float[Tensor, "n j"]) -> ChainPose:
        """Tip pose and geometric Jacobian: column i is (zᵢ × (p − pᵢ), zᵢ)."""
        position, rotation, origins, axes = self._sweep(joints_rad)
        z = torch.stack(axes, 1)
        lever = position[:, None] - torch.stack(origins, 1)
        jacobian = torch.cat((torch.linalg.cross(z, lever), z), -1).transpose(1, 2)
        return ChainPose(position, rotation, jacobian)

    def _sweep(
        self, joints_rad: Float[Tensor, "n j"]
    ) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3 3"], list[Tensor], list[Tensor]]:
        cos, sin = joints_rad.cos(), joints_rad.sin()
        position = self._position_offsets[0].expand(len(joints_rad), 3)
        rotation = self._rotation_offsets[0].expand(len(joints_rad), 3, 3)
        origins, axes = [], []
        for i in range(joints_rad.shape[1]):
            x, y, z = rotation.unbind(-1)
            c, s = cos[:, i, None], sin[:, i, None]
            turned = torch.stack((c * x + s * y, c * y - s * x, z), -1)
            origins.append(position)
            axes.append(z)
            position = position + turned @ self._position_offsets[i + 1]
            rotation = turned @ self._rotation_offsets[i + 1]
        return position, rotation, origins, axes


def _ancestry(model: mujoco.MjModel, body: int) -> list[int]:
    """Bodies from the one below the world down to ``body``."""
    chain = []
    while body != 0:
        chain.append(int(body))
        body = model.body_parentid[body]
    return chain[::-1]


def _is_plain_hinge(model: mujoco.MjModel, joint: int) -> bool:
    along_z = tuple(model.jnt_axis[joint]) == (0, 0, 1) and not model.jnt_pos[joint].any()
    hinge = model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE
    return hinge and along_z and model.qpos0[model.jnt_qposadr[joint]] == 0


def _frame(position: Sequence[float], quat: Sequence[float]) -> Float[Tensor, "4 4"]:
    frame = torch.eye(4, dtype=torch.float64)
    frame[:3, :3] = matrix_from_quat(torch.as_tensor(quat, dtype=torch.float64))
    frame[:3, 3] = torch.as_tensor(position, dtype=torch.float64)
    return frame

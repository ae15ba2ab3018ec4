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
    """World → … → site through hinge joints, with fixed offsets folded between them.

    The transform of joint i is affine in (cos qᵢ, sin qᵢ): all of them are made at once, and multiplied pairwise
    (Hillis & Steele 1986), so that a pose takes a dozen tensor operations whatever the number of joints. In float64,
    which neither autocast nor TF32 rounds.
    """

    def __init__(self, model: mujoco.MjModel, joints: Sequence[str], site: str, device: torch.device | str) -> None:
        offsets = torch.stack(_offsets(model, joints, site))
        keep = torch.diag(torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64))
        cosine = torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64))
        sine = torch.zeros(4, 4, dtype=torch.float64)
        sine[0, 1], sine[1, 0] = -1.0, 1.0
        parts = torch.stack([offsets[:-1] @ part for part in (keep, cosine, sine)])
        self._constant, self._cosine, self._sine = parts[:, :, None].to(device)
        self._tip = offsets[-1:].to(device)

    def pose(self, joints_rad: Float[Tensor, "n j"]) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3 3"]]:
        """Tip position (m) and rotation in the world."""
        tip = self._frames(joints_rad)[-1].float()
        return tip[:, :3, 3], tip[:, :3, :3]

    def pose_and_jacobian(self, joints_rad: Float[Tensor, "n j"]) -> ChainPose:
        """Tip pose and geometric Jacobian: column i is (zᵢ × (p − pᵢ), zᵢ)."""
        frames = self._frames(joints_rad).float()
        tip, hinges = frames[-1], frames[:-1]
        axis, lever = hinges[..., :3, 2], tip[:, :3, 3] - hinges[..., :3, 3]
        jacobian = torch.cat((torch.linalg.cross(axis, lever), axis), -1).permute(1, 2, 0)
        return ChainPose(tip[:, :3, 3], tip[:, :3, :3], jacobian)

    def _frames(self, joints_rad: Float[Tensor, "n j"]) -> Float[Tensor, "k n 4 4"]:
        """The frame of every joint (turned by its angle) in the world, then that of the tip."""
        angle = joints_rad.double().T[..., None, None]
        local = torch.addcmul(torch.addcmul(self._constant, self._cosine, angle.cos()), self._sine, angle.sin())
        frames = torch.cat((local, self._tip.expand(1, local.shape[1], 4, 4)))
        reach = 1
        while reach < len(frames):
            frames = torch.cat((frames[:reach], frames[:-reach] @ frames[reach:]))
            reach *= 2
        return frames


def _offsets(model: mujoco.MjModel, joints: Sequence[str], site: str) -> list[Float[Tensor, "4 4"]]:
    """The fixed transforms before each joint, then the one from the last joint to the site."""
    site_id = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, site)
    if site_id < 0:
        raise KeyError(f"no site {site!r}; the scene has {[model.site(i).name for i in range(model.nsite)]}")
    wanted = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name) for name in joints]
    offsets, found, current = [], [], torch.eye(4, dtype=torch.float64)
    for body in _ancestry(model, model.site_bodyid[site_id]):
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
    return [*offsets, current @ _frame(model.site_pos[site_id], model.site_quat[site_id])]


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

"""Batched rotations in torch. Quaternions are unit ``wxyz``; matrices act on column vectors."""

import torch
from jaxtyping import Float
from torch import Tensor


def matrix_from_quat(quat: Float[Tensor, "... 4"]) -> Float[Tensor, "... 3 3"]:
    """Rotation matrix of a unit quaternion."""
    w, x, y, z = quat.unbind(-1)
    rows = (
        torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)), -1),
        torch.stack((2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)), -1),
        torch.stack((2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)), -1),
    )
    return torch.stack(rows, -2)


def quat_from_matrix(matrix: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 4"]:
    """Unit quaternion with w ≥ 0; each case of the largest component is computed, the best conditioned one chosen."""
    m = matrix
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    squares = torch.stack((1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz), -1)
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    rows = (
        torch.stack((squares[..., 0], a, b, c), -1),
        torch.stack((a, squares[..., 1], d, e), -1),
        torch.stack((b, d, squares[..., 2], f), -1),
        torch.stack((c, e, f, squares[..., 3]), -1),
    )
    candidates = torch.stack(rows, -2)
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quat = candidates.gather(-2, best).squeeze(-2)
    quat = quat / quat.norm(dim=-1, keepdim=True)
    return torch.where(quat[..., :1] < 0, -quat, quat)


def matrix_from_rotvec(rotvec_rad: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3 3"]:
    """Rotation matrix of an axis-angle vector (Rodrigues), exact to first order at zero."""
    angle = rotvec_rad.norm(dim=-1, keepdim=True)
    half = angle / 2
    scale = 0.5 * torch.sinc(half / torch.pi)
    return matrix_from_quat(torch.cat((half.cos(), rotvec_rad * scale), -1))


def rotvec_from_matrix(matrix: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 3"]:
    """Axis-angle vector of a rotation, |angle| ≤ π rad."""
    quat = quat_from_matrix(matrix)
    sine = quat[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quat[..., :1])
    return quat[..., 1:] * torch.where(sine > 1e-7, angle / sine.clamp_min(1e-12), torch.full_like(sine, 2.0))


def quat_from_yaw(yaw_rad: Float[Tensor, "..."]) -> Float[Tensor, "... 4"]:
    """Rotation about +z."""
    zero = torch.zeros_like(yaw_rad)
    return torch.stack(((yaw_rad / 2).cos(), zero, zero, (yaw_rad / 2).sin()), -1)

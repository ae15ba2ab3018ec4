"""Batched rotations in torch. Quaternions are unit ``wxyz``; matrices act on column vectors.

Products are sums of elementwise products, never ``@``: autocast and TF32 would round those to three digits or fewer,
which is millimetres at the end of an arm.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor


def rotate(matrix: Float[Tensor, "... i j"], vector: Float[Tensor, "... j"]) -> Float[Tensor, "... i"]:
    """A matrix times a vector, in full precision."""
    return (matrix * vector[..., None, :]).sum(-1)


def compose(a: Float[Tensor, "... i j"], b: Float[Tensor, "... j k"]) -> Float[Tensor, "... i k"]:
    """A matrix times a matrix, in full precision: for rotations, first ``b``, then ``a``."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def matrix_from_quat(quat: Float[Tensor, "... 4"]) -> Float[Tensor, "... 3 3"]:
    """Rotation matrix of a unit quaternion: each entry is a sum of products of two of its components."""
    products = (quat[..., :, None] * quat[..., None, :]).flatten(-2)
    return (products[..., None] * _quat_basis(quat.device, quat.dtype)).sum(-2).unflatten(-1, (3, 3))


@lru_cache
def _quat_basis(device: torch.device, dtype: torch.dtype) -> Float[Tensor, "16 9"]:
    """How much each product of two components of a quaternion adds to each entry of its matrix."""
    basis = torch.zeros(4, 4, 3, 3, dtype=dtype)
    w, x, y, z = range(4)
    for i, (square, *others) in enumerate(((x, y, z), (y, z, x), (z, x, y))):
        basis[w, w, i, i] = basis[square, square, i, i] = 1
        for other in others:
            basis[other, other, i, i] = -1
    for i, j, sign in ((0, 1, -1), (1, 2, -1), (2, 0, -1), (1, 0, 1), (2, 1, 1), (0, 2, 1)):
        basis[i + 1, j + 1, i, j] = 2
        basis[w, 3 - i - j + 1, i, j] = 2 * sign
    return basis.reshape(16, 9).to(device)


def quat_from_yaw(yaw_rad: Float[Tensor, "..."]) -> Float[Tensor, "... 4"]:
    """Rotation about +z."""
    half, zero = yaw_rad / 2, torch.zeros_like(yaw_rad)
    return torch.stack((half.cos(), zero, zero, half.sin()), -1)


def quat_about(axis: Float[Tensor, "... 3"], angle_rad: Float[Tensor, " n"]) -> Float[Tensor, "n 4"]:
    """Rotation about a unit vector."""
    half = angle_rad[:, None] / 2
    return torch.cat((half.cos(), half.sin() * axis), -1)


def yaw_from_quat(quat: Float[Tensor, "... 4"]) -> Float[Tensor, "..."]:
    """The turn about +z (rad, −π … π) that takes world x to the horizontal direction of the body's x axis."""
    w, x, y, z = quat.unbind(-1)
    return torch.atan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z))


def yaw_from_matrix(matrix: Float[Tensor, "... i i"]) -> Float[Tensor, "..."]:
    """As :func:`yaw_from_quat`, of a rotation matrix, in space or in the plane."""
    return torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0])


def matrix_from_yaw(yaw_rad: Float[Tensor, "..."]) -> Float[Tensor, "... 3 3"]:
    """Rotation about +z."""
    return matrix_from_quat(quat_from_yaw(yaw_rad))


def quat_multiply(a: Float[Tensor, "... 4"], b: Float[Tensor, "... 4"]) -> Float[Tensor, "... 4"]:
    """Hamilton product: first turn by ``b``, then by ``a``."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        (
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ),
        -1,
    )


def matrix_from_vector(vector: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3 3"]:
    """The rotation by ``vector`` (axis times angle, rad), the inverse of :func:`rotation_vector` (Rodrigues 1840)."""
    angle = vector.norm(dim=-1)[..., None, None]
    skew = (vector[..., None] * _skew_basis(vector.device, vector.dtype)).sum(-2).unflatten(-1, (3, 3))
    # sinc(x) is sin(πx) / πx, so that nothing is divided by an angle of zero.
    bend = torch.sinc(angle / (2 * torch.pi)).square() / 2
    return _identity(vector.device) + torch.sinc(angle / torch.pi) * skew + bend * compose(skew, skew)


@lru_cache
def _identity(device: torch.device) -> Float[Tensor, "3 3"]:
    return torch.eye(3, device=device)


@lru_cache
def _skew_basis(device: torch.device, dtype: torch.dtype) -> Float[Tensor, "3 9"]:
    """What each component of a vector adds to the matrix of its cross product."""
    basis = torch.zeros(3, 3, 3, dtype=dtype)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        basis[i, k, j], basis[i, j, k] = 1, -1
    return basis.flatten(1).to(device)


def rotation_vector(matrix: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 3"]:
    """Axis times angle (rad, 0 … π) of a rotation matrix; at a half turn the axis' sign is arbitrary."""
    trace = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
    skew = torch.stack(
        (
            matrix[..., 2, 1] - matrix[..., 1, 2],
            matrix[..., 0, 2] - matrix[..., 2, 0],
            matrix[..., 1, 0] - matrix[..., 0, 1],
        ),
        -1,
    )
    sin2 = skew.norm(dim=-1)
    angle = torch.atan2(sin2, trace - 1)
    near_half = (sin2 < 1e-3) & (trace < 0)
    scale = torch.where(sin2 < 1e-6, torch.full_like(sin2, 0.5), angle / sin2.clamp_min(1e-9))
    # Near a half turn the axis is the column of R + I with the largest diagonal entry.
    shifted = matrix + torch.eye(3, device=matrix.device, dtype=matrix.dtype)
    largest = shifted.diagonal(dim1=-2, dim2=-1).argmax(-1)
    column = torch.take_along_dim(shifted, largest[..., None, None].expand(*shifted.shape[:-1], 1), -1).squeeze(-1)
    axis = column / column.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    return torch.where(near_half[..., None], axis * angle[..., None], skew * scale[..., None])

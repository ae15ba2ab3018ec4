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


def quat_from_yaw(yaw_rad: Float[Tensor, "..."]) -> Float[Tensor, "... 4"]:
    """Rotation about +z."""
    zero = torch.zeros_like(yaw_rad)
    return torch.stack(((yaw_rad / 2).cos(), zero, zero, (yaw_rad / 2).sin()), -1)

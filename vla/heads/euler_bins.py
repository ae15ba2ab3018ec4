"""Rotations of a tool as bins of three angles."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

BINS = 72
"""Of 5° each, the first about 0°: BridgeVLA's (arXiv 2506.07961)."""
AXES = 3
SPREAD_BINS = 1.0


def euler_rad(rotation: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3"]:
    """(x, y, z) of R = Rz · Ry · Rx · D, where D points the tool straight down, its x axis along that of the world.

    So a tool that points down is far from where the angles are not unique, y = ±90°: pointing level along its own x.
    """
    down = rotation.new_tensor([1.0, -1.0, -1.0])
    turned = rotation * down  # R · D, D being its own inverse
    x = torch.atan2(turned[:, 2, 1], turned[:, 2, 2])
    y = torch.atan2(-turned[:, 2, 0], turned[:, :2, 0].norm(dim=-1))
    z = torch.atan2(turned[:, 1, 0], turned[:, 0, 0])
    return torch.stack([x, y, z], dim=-1)


def rotation_of(angles_rad: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 3"]:
    """The inverse of :func:`euler_rad`."""
    (sx, sy, sz), (cx, cy, cz) = angles_rad.sin().unbind(-1), angles_rad.cos().unbind(-1)
    rows = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    matrix = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    return matrix * angles_rad.new_tensor([1.0, -1.0, -1.0])


def soft_bins(angles_rad: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 bins"]:
    """What bins' probabilities are to be: a Gaussian of ``SPREAD_BINS`` about each angle, around the circle.

    BridgeVLA names one bin, and jitters it instead where a bin's number is fed on.
    """
    centre_rad = torch.arange(BINS, device=angles_rad.device) * (2 * math.pi / BINS)
    off_rad = angles_rad[..., None] - centre_rad
    off_bins = torch.atan2(off_rad.sin(), off_rad.cos()) * (BINS / (2 * math.pi))
    return (-off_bins.square() / (2 * SPREAD_BINS**2)).softmax(dim=-1)


def of_bins(index: Int[Tensor, "b 3"]) -> Float[Tensor, "b 3 3"]:
    """The rotation in the middle of these bins."""
    return rotation_of(index * (2 * math.pi / BINS))

"""Cameras: from pixels to the world and back.

Pixels (u, v) have (0, 0) at the outer corner of the top left one, so that a centred camera has its principal point at
half the picture's size. Places (x, y) in a picture run from −1 at its left or upper edge to 1 at the other, whatever
its size. Camera frames are OpenCV's: x right, y down, z forward.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def unproject(
    pixel: Float[Tensor, "m k 2"],
    depth_m: Float[Tensor, "m k 1"],
    intrinsics: Float[Tensor, "m 3 3"],
    T_world_cam: Float[Tensor, "m 4 4"],
) -> Float[Tensor, "m k 3"]:
    """World points in metres, P = T_world_cam · depth · K⁻¹ [u, v, 1]ᵀ, in the OpenCV camera frame.

    ``pixel`` is (u, v) with (0, 0) at the outer corner of the top left pixel, so that a centred camera
    has its principal point at half the image size; ``depth_m`` runs along the optical axis.
    """
    return sight_lines(pixel, intrinsics, T_world_cam) * depth_m + T_world_cam[:, None, :3, 3]


def sight_lines(
    pixel: Float[Tensor, "m k 2"], intrinsics: Float[Tensor, "m 3 3"], T_world_cam: Float[Tensor, "m 4 4"]
) -> Float[Tensor, "m k 3"]:
    """Directions in the world of the lines through these pixels; one metre along the optical axis each."""
    homogeneous = torch.cat([pixel, torch.ones_like(pixel[..., :1])], dim=-1)
    inverse = torch.linalg.inv_ex(intrinsics).inverse  # without the check, for which a GPU would be waited for
    return homogeneous @ inverse.mT @ T_world_cam[:, :3, :3].mT


def pixel_centres(height: int, width: int, like: Tensor) -> Float[Tensor, "n 2"]:
    """(u, v) of the centre of every pixel, row after row."""
    u = torch.arange(width, device=like.device, dtype=like.dtype) + 0.5
    v = torch.arange(height, device=like.device, dtype=like.dtype) + 0.5
    return torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1).flatten(0, 1)


@dataclass(frozen=True, kw_only=True)
class Projected:
    """Where n points appear to v cameras: the place (x, y) in the picture, metres along the optical axis, and whether
    the point lies within the picture and within the camera's range. Where it does not, the rest may be anything.
    """

    position: Float[Tensor, "b v n 2"]
    depth_m: Float[Tensor, "b v n"]
    seen: Bool[Tensor, "b v n"]


class Cameras(ABC):
    """v cameras that look at each of b scenes."""

    @abstractmethod
    def project(self, points_m: Float[Tensor, "b n 3"]) -> Projected:
        """Points of the world, each scene's to its own cameras."""


@dataclass(frozen=True, kw_only=True)
class PerspectiveCameras(Cameras):
    """Pinhole cameras: ``intrinsics`` in pixels of pictures of ``size_px`` (height, width), poses in metres."""

    intrinsics: Float[Tensor, "b v 3 3"]
    T_world_cam: Float[Tensor, "b v 4 4"]
    size_px: tuple[int, int]

    def project(self, points_m: Float[Tensor, "b n 3"]) -> Projected:
        with torch.autocast(points_m.device.type, enabled=False):  # coordinates need all of float32's digits
            rotation, origin_m = self.T_world_cam[..., :3, :3], self.T_world_cam[..., None, :3, 3]
            in_camera_m = (points_m[:, None] - origin_m) @ rotation
            depth_m = in_camera_m[..., 2]
            ahead = depth_m > 0
            homogeneous = in_camera_m @ self.intrinsics.mT
            pixel = homogeneous[..., :2] / torch.where(ahead, depth_m, 1.0)[..., None]
            position = 2 * pixel / pixel.new_tensor([self.size_px[1], self.size_px[0]]) - 1
        return Projected(position=position, depth_m=depth_m, seen=ahead & (position.abs() <= 1).all(dim=-1))


@dataclass(frozen=True, kw_only=True)
class CubeViews(Cameras):
    """Orthographic pictures of a cube, a scene each, along the axes of the world: from the top, front and right.

    Said of a robot at the origin that faces along x, y being its left and z up: ``top`` looks down on what lies before
    it, x up and y left in the picture; ``front`` looks back at it, y right and z up; ``right`` is at its right hand, x
    right and z up. Every picture is of the whole cube, and depths run from 0 at the face next to the camera to twice
    ``half_m`` at the other. What is outside of the cube is not seen. These are the views of BridgeVLA and RVT
    (arXiv 2506.07961, 2306.14896).
    """

    NAMES: ClassVar[tuple[str, ...]] = ("top", "front", "right")
    AXES: ClassVar[tuple[tuple[int, ...], ...]] = ((1, 0, 2), (1, 2, 0), (0, 2, 1))
    """The axes of the world that run right or left, down or up, and ahead or back in each picture …"""
    SIGNS: ClassVar[tuple[tuple[int, ...], ...]] = ((-1, -1, -1), (1, -1, -1), (1, -1, 1))
    """… and whether they run right, down and ahead (1) or the other way."""

    centre_m: Float[Tensor, "b 3"]
    half_m: Float[Tensor, " b"]

    def project(self, points_m: Float[Tensor, "b n 3"]) -> Projected:
        half_m = self.half_m[:, None, None]
        relative = (points_m - self.centre_m[:, None]) / half_m
        axes = torch.tensor(self.AXES, device=points_m.device)
        in_camera = relative[..., axes].transpose(1, 2) * relative.new_tensor(self.SIGNS)[:, None]
        seen = (in_camera.abs() <= 1).all(dim=-1)
        return Projected(position=in_camera[..., :2], depth_m=(in_camera[..., 2] + 1) * half_m, seen=seen)

    def magnified(self, centre_m: Float[Tensor, "b 3"], times: float) -> "CubeViews":
        """Cubes about other centres, smaller by this factor: BridgeVLA looks a second time, at 4."""
        return CubeViews(centre_m=centre_m, half_m=self.half_m / times)

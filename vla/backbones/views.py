"""What is known of pictures beside their colours: depth, the cameras that took them, and what their pixels mean."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vla.spatial.projection import sight_lines

STEEPEST_SLOPE = 10.0
"""Lines of sight that are flatter, or that rise, count as this flat: they would meet the table far away or never."""
REACH_M = 3.0
RAY_NUMBERS = 4
"""How many numbers :func:`surface_rays` says of a line of sight."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """Pictures of m cameras: depth images in metres (0 = no reading) and calibration, each where it is known.

    ``intrinsics`` are in pixels of pictures of ``size_px`` (height, width); ``T_world_cam`` is in metres.
    """

    size_px: tuple[int, int]
    depth_m: Float[Tensor, "m h w"] | None = None
    intrinsics: Float[Tensor, "m 3 3"] | None = None
    T_world_cam: Float[Tensor, "m 4 4"] | None = None

    def at(self, rows: Int[Tensor, " k"], n: int) -> "Views":
        """Those of ``rows`` of n samples, all times and views of one after the other."""
        return self._each(lambda x: x.unflatten(0, (n, -1))[rows].flatten(0, 1))

    def of_the_present(self, n: int, t: int) -> "Views":
        """Those of the last of t times of n samples."""
        return self._each(lambda x: x.unflatten(0, (n, t, -1))[:, -1].flatten(0, 1))

    def rays(self, position: Float[Tensor, "m k 2"]) -> Float[Tensor, "m k r"]:
        """The :func:`surface_rays` of places (x, y) in the pictures, −1 … 1 from the left or upper edge to the other;
        ``ValueError`` for cameras without calibration.
        """
        if self.intrinsics is None or self.T_world_cam is None:
            raise ValueError("expected calibrated cameras, got none")
        return surface_rays(self.pixel(position), self.intrinsics, self.T_world_cam)

    def pixel(self, position: Float[Tensor, "m k 2"]) -> Float[Tensor, "m k 2"]:
        """(u, v), (0, 0) being the outer corner of the top left pixel, of places as in :meth:`rays`."""
        height, width = self.size_px
        return (position + 1) / 2 * position.new_tensor([width, height])

    def _each(self, choose: Callable[[Tensor], Tensor]) -> "Views":
        depth_m, intrinsics, T_world_cam = (
            None if x is None else choose(x) for x in (self.depth_m, self.intrinsics, self.T_world_cam)
        )
        return Views(size_px=self.size_px, depth_m=depth_m, intrinsics=intrinsics, T_world_cam=T_world_cam)


def surface_rays(
    pixel: Float[Tensor, "m k 2"], intrinsics: Float[Tensor, "m 3 3"], T_world_cam: Float[Tensor, "m 4 4"]
) -> Float[Tensor, "m k r"]:
    """Lines of sight as the world has them: (x, y) in metres where each is at height 0, and what it moves along x and y
    per metre that it rises. So a thing of height z is seen at (x, y) + z · slope, wherever the camera stands.

    Lines that hardly fall are cut off at ``STEEPEST_SLOPE``, points at ``REACH_M`` from the origin along either axis.
    """
    direction, camera_m = sight_lines(pixel, intrinsics, T_world_cam), T_world_cam[:, None, :3, 3]
    level = direction[..., :2]
    fall = torch.maximum(-direction[..., 2:], level.norm(dim=-1, keepdim=True) / STEEPEST_SLOPE).clamp(min=1e-6)
    slope = -level / fall
    point_m = (camera_m[..., :2] - camera_m[..., 2:] * slope).clamp(-REACH_M, REACH_M)
    return torch.cat([point_m, slope], dim=-1)

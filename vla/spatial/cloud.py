"""Coloured point clouds, from the RGB-D pictures of any number of cameras into one frame."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vla.spatial.projection import pixel_centres, unproject

FARTHEST_M = 100.0
"""Depths beyond are taken for millimetres that nobody converted."""


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """n points of b scenes in metres, with c numbers of each, such as its colour.

    Scenes have as many points as ``mask`` is True for; the others' numbers may be anything. No scene need have any, but
    there must be room for one: ``ValueError`` for n = 0 or shapes that do not agree.
    """

    points: Float[Tensor, "b n 3"]
    features: Float[Tensor, "b n c"]
    mask: Bool[Tensor, "b n"]

    def __post_init__(self) -> None:
        b, n = self.mask.shape
        if n == 0 or self.points.shape != (b, n, 3) or self.features.shape[:2] != (b, n):
            shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in vars(self).items())
            raise ValueError(
                f"expected points (b, n, 3), features (b, n, c), mask (b, n) with n from 1 on, got {shapes}"
            )

    def crop(self, low_m: Float[Tensor, "*b 3"], high_m: Float[Tensor, "*b 3"]) -> "Cloud":
        """Only what lies between two corners, either one for all scenes or one for each; bounds belong to it."""
        low_m, high_m = low_m.view(-1, 1, 3), high_m.view(-1, 1, 3)
        inside = ((self.points >= low_m) & (self.points <= high_m)).all(dim=-1)
        return replace(self, mask=self.mask & inside)

    def transformed(self, T: Float[Tensor, "b 4 4"]) -> "Cloud":
        """The same points in another frame, or moved: T · p."""
        with torch.autocast(self.points.device.type, enabled=False):  # coordinates need all of float32's digits
            return replace(self, points=self.points @ T[:, :3, :3].mT + T[:, None, :3, 3])

    def voxel_downsampled(self, size_m: float) -> "Cloud":
        """One point for all that share a cell of the lattice of this step through the origin: their mean, in place and
        features.

        They are ordered by their cells along x, then y, then z; n becomes the largest number of a scene, at least 1.
        ``ValueError`` for a size that is not above 0, or so small that cells cannot be numbered.
        """
        if not 0 < size_m < math.inf:
            raise ValueError(f"expected a voxel's size above 0 m, got {size_m}")
        numbers, voxels_per_scene = self._voxel_numbers(size_m)
        voxels, member_of = numbers[self.mask].unique(return_inverse=True)
        scene = voxels // voxels_per_scene
        counts = scene.bincount(minlength=len(self.mask))
        place = torch.arange(len(voxels), device=voxels.device) - (counts.cumsum(0) - counts)[scene]
        n = max(1, int(counts.max()))
        mean = _means(torch.cat([self.points, self.features], dim=-1)[self.mask], member_of, len(voxels))
        table = mean.new_zeros(len(counts), n, mean.shape[-1]).index_put((scene, place), mean)
        mask = torch.arange(n, device=counts.device) < counts[:, None]
        return Cloud(points=table[..., :3], features=table[..., 3:], mask=mask)

    def _voxel_numbers(self, size_m: float) -> tuple[Int[Tensor, "b n"], int]:
        """A number for each point's scene and voxel, in the order of both, and how many a scene has."""
        cells = (self.points.detach().double() / size_m).floor()
        cells = cells.masked_fill(~self.mask[..., None], math.nan)
        lowest = cells.flatten(0, 1).nan_to_num(math.inf).amin(dim=0)
        highest = cells.flatten(0, 1).nan_to_num(-math.inf).amax(dim=0)
        along_x, along_y, along_z = (max(1.0, extent) for extent in (highest - lowest + 1).tolist())
        if along_x * along_y * along_z * len(cells) >= 2**62:
            raise ValueError(
                f"a cloud of {along_x:.3g} x {along_y:.3g} x {along_z:.3g} voxels of {size_m} m is too large"
            )
        x, y, z = (cells - lowest).nan_to_num(0.0, 0.0, 0.0).long().unbind(-1)
        scene = torch.arange(len(cells), device=cells.device)[:, None]
        return ((scene * int(along_x) + x) * int(along_y) + y) * int(along_z) + z, int(along_x * along_y * along_z)


def _means(values: Float[Tensor, "k d"], group: Int[Tensor, " k"], groups: int) -> Float[Tensor, "g d"]:
    """Of the rows of each group. Indexed accumulation adds in a fixed order on a GPU too, unlike ``index_add``."""
    ones = torch.ones_like(values[:, :1])
    sums = values.new_zeros(groups, values.shape[1] + 1)
    sums = sums.index_put((group,), torch.cat([values, ones], dim=-1), accumulate=True)
    return sums[:, :-1] / sums[:, -1:]


def fuse(
    features: Float[Tensor, "b v c h w"],
    depth_m: Float[Tensor, "b v h w"],
    intrinsics: Float[Tensor, "b v 3 3"],
    T_world_cam: Float[Tensor, "b v 4 4"],
    view_mask: Bool[Tensor, "b v"] | None = None,
) -> Cloud:
    """One cloud in the world of all pixels that have a depth, view after view, row after row.

    ``features`` are what a pixel's point gets, such as its RGB; ``depth_m`` is along the optical axis. A pixel has no
    point where its depth is 0, negative, infinite or NaN, or its view is missing (``view_mask`` False). ``ValueError``
    for shapes that do not agree, and for depths beyond ``FARTHEST_M``, which are hardly metres.
    """
    b, v, _, h, w = features.shape
    if depth_m.shape != (b, v, h, w):
        raise ValueError(f"expected depth of shape {(b, v, h, w)}, as the pictures have, got {tuple(depth_m.shape)}")
    valid = (depth_m > 0) & (depth_m < math.inf)
    if view_mask is not None:
        valid = valid & view_mask[..., None, None]
    depth_m = depth_m.float().masked_fill(~valid, 0.0)
    if (farthest_m := float(depth_m.max())) > FARTHEST_M:
        raise ValueError(f"expected depth in metres, up to {FARTHEST_M:g}, got {farthest_m:g}: is it in millimetres?")
    with torch.autocast(depth_m.device.type, enabled=False):  # coordinates need all of float32's digits
        pixel = pixel_centres(h, w, depth_m).expand(b * v, -1, -1)
        along_axis_m = depth_m.reshape(b * v, h * w, 1)
        points = unproject(pixel, along_axis_m, intrinsics.float().flatten(0, 1), T_world_cam.float().flatten(0, 1))
    mask = valid.flatten(1)
    points = points.view(b, -1, 3).masked_fill(~mask[..., None], 0.0)
    return Cloud(points=points, features=features.movedim(2, -1).flatten(1, 3), mask=mask)

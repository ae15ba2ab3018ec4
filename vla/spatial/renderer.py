"""Pictures of point clouds: of all that falls on a pixel, the nearest is seen."""

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from vla.spatial.cloud import Cloud
from vla.spatial.projection import Cameras, Projected

NOTHING = torch.iinfo(torch.int64).max
LOWER_32_BITS = 0xFFFFFFFF


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """Square pictures of v cameras: the features of the nearest point in each pixel, its depth along the optical axis
    in metres, and whether there is one; features and depth are 0 where there is none.
    """

    features: Float[Tensor, "b v c s s"]
    depth_m: Float[Tensor, "b v s s"]
    mask: Bool[Tensor, "b v s s"]


def render(cloud: Cloud, cameras: Cameras, side_px: int, radius_px: float = 0.0) -> Rendered:
    """Every point as a disc that faces the camera: the pixels whose centres are within ``radius_px`` of the point's
    image, and always the one that holds it. Points whose image is outside of the picture are left out, discs end at its
    edges, and of points equally near the one that comes first in the cloud is seen.

    The same cloud gives the same picture, bit by bit, whatever else is in the batch. Gradients reach the features of
    points that are seen and, through the depth, their places. ``ValueError`` for a side below 1 or a negative radius.
    """
    if side_px < 1 or not 0 <= radius_px < math.inf:
        raise ValueError(f"expected a side of 1 px or more and a radius of 0 or more, got {side_px} and {radius_px}")
    projected = cameras.project(cloud.points)
    b, n, _ = cloud.points.shape
    nearest = _nearest(projected, cloud.mask, side_px, radius_px)
    empty = nearest == NOTHING
    point = nearest & LOWER_32_BITS
    row = (point + n * torch.arange(b, device=point.device)[:, None, None]).masked_fill_(empty, b * n)
    depth_m = functional.pad(projected.depth_m, (0, 1)).gather(2, point.masked_fill_(empty, n))  # the last one is 0 …
    table = functional.pad(cloud.features.flatten(0, 1), (0, 0, 0, 1))  # … and the last row, for pixels with nothing
    features = functional.embedding(row, table)  # its gradients add up in a fixed order on a GPU too
    size = (side_px, side_px)
    return Rendered(
        features=features.movedim(-1, 2).unflatten(-1, size),
        depth_m=depth_m.unflatten(-1, size),
        mask=~empty.unflatten(-1, size),
    )


@torch.no_grad()
def _nearest(
    projected: Projected, mask: Bool[Tensor, "b n"], side_px: int, radius_px: float
) -> Int[Tensor, "b v pixels"]:
    """For each pixel the lowest of its points' keys, or ``NOTHING``.

    A key has the depth in its upper 32 bits and the point's number in its lower: the bits of a float that is not
    negative, read as an integer, are ordered as it is, so that one minimum finds the nearest and breaks ties, in
    whatever order a device takes it.
    """
    b, v, n = projected.depth_m.shape
    depth_bits = projected.depth_m.float().abs().contiguous().view(torch.int32).long()
    key = ((depth_bits << 32) | torch.arange(n, device=depth_bits.device)).view(b * v, n)
    unseen = ~(projected.seen & mask[:, None]).view(b * v, n)
    across, down = ((projected.position.float() + 1) * (side_px / 2)).reshape(b * v, n, 2).unbind(-1)
    reach = math.floor(radius_px + 0.5)
    columns, rows = _steps(across, unseen, side_px, reach), _steps(down, unseen, side_px, reach)
    outside = side_px * side_px
    buffer = torch.full((b * v, outside + 1), NOTHING, device=key.device)
    for (row, far2_y), (column, far2_x) in itertools.product(rows, columns):
        is_own = row is rows[reach][0] and column is columns[reach][0]
        missed = unseen if is_own else far2_x + far2_y > radius_px**2
        pixel = torch.add(column, row, alpha=side_px).masked_fill_(missed, outside)
        buffer.scatter_reduce_(1, pixel, key, "amin")
    return buffer[:, :outside].view(b, v, outside)


def _steps(
    place_px: Float[Tensor, "m n"], unseen: Bool[Tensor, "m n"], side_px: int, reach: int
) -> list[tuple[Int[Tensor, "m n"], Float[Tensor, "m n"]]]:
    """Along one axis, the pixels up to ``reach`` from a point's own, and how far their centres are from it, squared.

    One outside of the picture, and all of an unseen point, count as infinitely far. A point's own is in the middle.
    """
    place_px = place_px.masked_fill(unseen, 0.0)
    own = place_px.floor().clamp(max=side_px - 1)
    steps = []
    for step in range(-reach, reach + 1):
        pixel = own + step
        far2 = (pixel + 0.5 - place_px).square()
        beyond = unseen | (pixel < 0) | (pixel >= side_px)
        steps.append((pixel.long(), far2.masked_fill_(beyond, math.inf)))
    return steps

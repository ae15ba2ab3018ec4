"""What ``nano`` is told of points in the world: where what its patches and keypoints show is, from depth and cameras.

After 4D-VLA (arXiv 2506.22242): the points P = T_world_cam · depth · K⁻¹ [u, v, 1]ᵀ of a picture, embedded, are added
to its patches before anything mixes these. The frame is the world's, in which a robot's state and actions are said, and
in which the base of its arm stands still. Departures: a patch covers many pixels, so it is given the mean of what is
embedded of them and not the point of one depth; keypoints are told their points too; and all of it is 0 at first.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vla.backbones.nano_config import NanoConfig
from vla.backbones.views import REACH_M, Views
from vla.spatial.projection import pixel_centres, unproject

POINT_NUMBERS = 4
"""A point's x, y and z in metres, and the share of what it is the mean of that has a depth."""
BANDS = 6
LONGEST_WAVE_M = 4.0
HIDDEN = 64


def point_map(views: Views, stride: int) -> Float[Tensor, "m 4 h w"]:
    """The mean point of the pixels with a depth in each cell of ``stride`` × ``stride`` pixels, and the share of them.

    Where none has any, all four numbers are 0; a depth that is 0, negative, infinite or NaN is none. Points farther
    than ``REACH_M`` from the origin along an axis are brought as near. ``ValueError`` for cameras without depth or
    calibration.
    """
    if views.depth_m is None or views.intrinsics is None or views.T_world_cam is None:
        raise ValueError("expected depth images of calibrated cameras, got none")
    (height, width), m = views.size_px, len(views.depth_m)
    with torch.autocast(views.depth_m.device.type, enabled=False):  # coordinates need all of float32's digits
        depth_m = views.depth_m.float().reshape(m, -1, 1)
        there = (depth_m > 0) & (depth_m < math.inf)
        pixel = pixel_centres(height, width, depth_m).expand(m, -1, -1)
        points = unproject(pixel, depth_m.where(there, 0.0), views.intrinsics.float(), views.T_world_cam.float())
        numbers = torch.cat([points.clamp(-REACH_M, REACH_M) * there, there.float()], dim=-1)
        means = functional.avg_pool2d(numbers.mT.unflatten(2, (height, width)), stride)
        return torch.cat([means[:, :3] / means[:, 3:].clamp(min=1e-6), means[:, 3:]], dim=1)


def points_under(log_heatmap: Float[Tensor, "m k h w"], points: Float[Tensor, "m 4 h w"]) -> Float[Tensor, "m k 4"]:
    """The mean point under each heatmap over the cells with a depth, and the share of these; 0 where there is none."""
    with torch.autocast(points.device.type, enabled=False):
        heat, numbers = log_heatmap.float().exp().flatten(2), points.flatten(2).mT
        share = heat @ numbers[..., 3:]
        return torch.cat([heat @ (numbers[..., :3] * numbers[..., 3:]) / share.clamp(min=1e-6), share], dim=-1)


def waves(points_m: Float[Tensor, "m n 3"]) -> Float[Tensor, "m n f"]:
    """Coordinates in metres beside their sines and cosines, of ``BANDS`` wave lengths from ``LONGEST_WAVE_M`` down,
    each half of the one before.
    """
    frequency = 2 * math.pi / LONGEST_WAVE_M * 2.0 ** torch.arange(BANDS, device=points_m.device)
    phase = (points_m[..., None] * frequency).flatten(-2)
    return torch.cat([points_m, phase.sin(), phase.cos()], dim=-1)


class Points(nn.Module):
    """What points add to the tokens of patches and of both looks, to the waypoint and to the queries.

    Last maps are 0 at first, so that a network which learned to look without depth sees what it saw. Patches are told
    an embedding of points; what keypoints point at is told as it is, as :mod:`vla.backbones.sightlines` does, for the
    waypoint is nearly linear in it.
    """

    def __init__(self, config: NanoConfig, *, views: int, waypoint_dim: int) -> None:
        super().__init__()
        every = views * (config.keypoints + config.second_keypoints) * POINT_NUMBERS
        self.embed = nn.Sequential(nn.Linear(3 + 6 * BANDS, HIDDEN), nn.GELU())
        self.patches = nn.Linear(HIDDEN, config.width, bias=False)
        self.first = nn.Linear(config.keypoints_per_token * POINT_NUMBERS, config.width, bias=False)
        self.second = nn.Linear(config.second_keypoints * POINT_NUMBERS, config.width, bias=False)
        self.waypoint = nn.Linear(every, waypoint_dim, bias=False) if waypoint_dim else None
        self.queries = nn.Linear(every, config.n_queries * config.width, bias=False)
        for layer in (self.patches, self.first, self.second, self.waypoint, self.queries):
            if layer is not None:
                nn.init.zeros_(layer.weight)

    def of_patches(self, points: Float[Tensor, "m 4 h w"], grid: tuple[int, int]) -> Float[Tensor, "m p d"]:
        """What each patch of a ``grid`` (rows, columns) is told: the mean over its cells with a depth; 0 for none."""
        share = points[:, 3:]
        embedded = self.embed(waves(points[:, :3].flatten(2).mT)).mT.unflatten(2, points.shape[2:])
        total = functional.adaptive_avg_pool2d(embedded * share, grid)
        mean = total / functional.adaptive_avg_pool2d(share, grid).clamp(min=1e-6)
        return self.patches(mean.flatten(2).mT)

    def of_tokens(self, points: Float[Tensor, "m k 4"]) -> Float[Tensor, "m n d"]:
        """What keypoints of the first look, several of which share a token, add to theirs."""
        return self.first(points.flatten(1).unflatten(1, (-1, self.first.in_features)))

"""Where things are: heatmaps, their expected position, and the 3-D point behind it."""

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.backbones.views import Views
from vla.spatial.projection import unproject


def pixel_grid(height: int, width: int, like: Tensor) -> Float[Tensor, "h w 2"]:
    """(x, y) of every cell's centre, x right and y down; the image's edges are at −1 and 1. Not to be written to."""
    return _pixel_grid(height, width, like.device, like.dtype)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept must serve learning too
def _pixel_grid(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "h w 2"]:
    x = (2 * torch.arange(width, device=device, dtype=dtype) + 1) / width - 1
    y = (2 * torch.arange(height, device=device, dtype=dtype) + 1) / height - 1
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def expected_position(heatmaps: Float[Tensor, "m k h w"]) -> Float[Tensor, "m k 2"]:
    """Mean (x, y) under each heatmap (soft-argmax), in [−1, 1]."""
    grid = pixel_grid(heatmaps.shape[-2], heatmaps.shape[-1], heatmaps)
    return heatmaps.flatten(2) @ grid.flatten(0, 1)


def spread(heatmaps: Float[Tensor, "m k h w"], position: Float[Tensor, "m k 2"]) -> Float[Tensor, "m k 1"]:
    """Standard deviation of each heatmap about its ``position``: 0 for a peak, about 0.8 when flat."""
    grid = pixel_grid(heatmaps.shape[-2], heatmaps.shape[-1], heatmaps)
    mean_square = heatmaps.flatten(2) @ grid.square().sum(-1).flatten()[:, None]
    return (mean_square - position.square().sum(-1, keepdim=True)).clamp(min=1e-6).sqrt()


def expected_depth(
    heatmaps: Float[Tensor, "m k h w"], depth_m: Float[Tensor, "m hd wd"]
) -> tuple[Float[Tensor, "m k 1"], Float[Tensor, "m k 1"]]:
    """Mean depth under each heatmap over the pixels with a reading (depth > 0), and the share of them.

    The depth image must be a whole multiple of the heatmap in size. Where no pixel under a heatmap
    has a reading, depth and share are 0.
    """
    size = (heatmaps.shape[-2], heatmaps.shape[-1])
    valid = (depth_m > 0).to(heatmaps.dtype)
    depth_sum = nn.functional.adaptive_avg_pool2d(depth_m * valid, size).flatten(1)
    share = nn.functional.adaptive_avg_pool2d(valid, size).flatten(1)
    flat = heatmaps.flatten(2)
    total, weight = flat @ depth_sum[..., None], flat @ share[..., None]
    return total / weight.clamp(min=1e-6), weight


class KeypointEncoder(nn.Module):
    """Feature maps and an instruction to keypoint tokens: the instruction asks, every cell answers.

    The condition becomes ``keypoints`` queries, each cell of the map a key; their scaled dot products, softmaxed over
    the cells, are the heatmaps. Each token stands for ``per_token`` of them: a linear map of their expected positions,
    their spreads, and the features under them; with ``use_depth`` also of their expected depths, the shares of pixels
    with a reading, and the world points in metres (0 without calibration or reading).

    A small object fills one cell of hundreds, so a heatmap must start out sharp: with queries and keys normalised and
    logits of standard deviation ``INITIAL_SHARPNESS``, some of the random queries single out objects from the first
    step on. At the usual scale of 1 all heatmaps start flat, all positions at the image's centre, and nothing tells the
    queries where to look.
    """

    INITIAL_SHARPNESS = 6.0

    def __init__(self, channels: int, keypoints: int, width: int, *, per_token: int, use_depth: bool) -> None:
        super().__init__()
        if keypoints % per_token:
            raise ValueError(f"keypoints must be a multiple of per_token, got {keypoints} and {per_token}")
        self.use_depth = use_depth
        self.keypoints, self.tokens = keypoints, keypoints // per_token
        self.query = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, keypoints * channels))
        self.key_norm = nn.LayerNorm(channels)
        self.query_norm = nn.LayerNorm(channels, elementwise_affine=False)
        self.log_sharpness = nn.Parameter(torch.full((keypoints, 1), math.log(self.INITIAL_SHARPNESS)))
        self.position = nn.Linear(per_token * (8 if use_depth else 3), width)
        self.content = nn.Linear(per_token * channels, width)

    def forward(
        self, maps: Float[Tensor, "m c h w"], condition: Float[Tensor, "m d"], views: Views | None = None
    ) -> tuple[Float[Tensor, "m n d"], Float[Tensor, "m k 2"]]:
        """Tokens, and the position (x, y) in [−1, 1] of every keypoint."""
        tokens, position, _ = self._read(maps, condition, views)
        return tokens, position

    def look(
        self, maps: Float[Tensor, "m c h w"], condition: Float[Tensor, "m d"], views: Views | None = None
    ) -> tuple[Float[Tensor, "m n d"], Float[Tensor, "m k 2"], Float[Tensor, "m k h w"]]:
        """Tokens and positions as in :meth:`forward`, and the logarithm of every heatmap."""
        tokens, position, logits = self._read(maps, condition, views)
        return tokens, position, logits.log_softmax(dim=-1).unflatten(-1, maps.shape[-2:])

    def _read(
        self, maps: Float[Tensor, "m c h w"], condition: Float[Tensor, "m d"], views: Views | None
    ) -> tuple[Float[Tensor, "m n d"], Float[Tensor, "m k 2"], Float[Tensor, "m k n"]]:
        """Tokens and positions as in :meth:`forward`, and the logits of every heatmap."""
        keys = self.key_norm(maps.flatten(2).mT)
        with torch.autocast(maps.device.type, enabled=False):  # coordinates need all of float32's digits
            logits = self._logits(keys.float(), condition.float())
            heatmaps = logits.softmax(dim=-1).unflatten(-1, maps.shape[-2:])
            position = expected_position(heatmaps)
            numbers = [position, spread(heatmaps, position)]
            if self.use_depth:
                assert views is not None and views.depth_m is not None
                numbers.append(_depth_numbers(heatmaps, position, views, views.depth_m))
            where = self.position(torch.cat(numbers, dim=-1).reshape(len(maps), self.tokens, -1))
        what = (heatmaps.flatten(2).to(keys.dtype) @ keys).reshape(len(maps), self.tokens, -1)
        return where + self.content(what), position, logits

    def _logits(self, keys: Float[Tensor, "m n c"], condition: Float[Tensor, "m d"]) -> Float[Tensor, "m k n"]:
        """How well each cell answers each keypoint's query; their softmax is the probability over cells."""
        queries = self.query_norm(self.query(condition).unflatten(-1, (self.keypoints, -1)))
        return queries @ keys.mT * (self.log_sharpness.exp() / math.sqrt(keys.shape[-1]))


def _depth_numbers(
    heatmaps: Float[Tensor, "m k h w"], position: Float[Tensor, "m k 2"], views: Views, images_m: Float[Tensor, "m h w"]
) -> Float[Tensor, "m k 5"]:
    """Expected depth, share of pixels with a reading, and world point of each keypoint."""
    depth_m, share = expected_depth(heatmaps, images_m)
    point_world = position.new_zeros(*position.shape[:2], 3)
    if views.intrinsics is not None and views.T_world_cam is not None:
        pixel = views.pixel(position)
        point_world = unproject(pixel, depth_m, views.intrinsics, views.T_world_cam) * (share > 0)
    return torch.cat([depth_m, share, point_world], dim=-1)

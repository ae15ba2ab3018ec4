"""Convolutions that heat goes through before it is refined: from where a thing is to where the tool is to be."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vla.features import Sight

COLDEST = -3.0
"""Less, as the logarithm of how much more than evenly heat is spread, makes no difference."""


class HeatTrunk(nn.Module):
    """Adds to logits of coarse heatmaps what convolutions make of the maps, and of all keypoints' heat on them.

    A heatmap of the backbone is where features are that a question asks for; behind a cube, or a span above it, there
    may be none. Dilations let heat travel 7 cells. What is read off ``thought`` scales and shifts the channels of each
    view. At first nothing is added. BridgeVLA's heatmaps come from such a trunk alone (arXiv 2506.07961, its code).
    """

    def __init__(self, channels: int, keypoints: int, *, views: int, thought: int, width: int) -> None:
        super().__init__()
        self.views = views
        self.taken = nn.Conv2d(channels + keypoints, width, 3, padding=1)
        self.heeded = nn.Linear(thought, views * 2 * width)
        self.farther = nn.ModuleList(nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in (2, 4))
        self.added = nn.Conv2d(width, 1, 1)
        with torch.no_grad():
            self.heeded.weight.mul_(0.1)
            for parameter in self.added.parameters():
                parameter.zero_()

    def forward(
        self, coarse: Float[Tensor, "b v h w"], sight: Sight, thought: Float[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "m h w"], Float[Tensor, "m d h w"]]:
        """The logits of every view of every sample, m of them, and features of the same cells to refine them by."""
        assert sight.maps is not None
        h, w = coarse.shape[-2:]
        warmth = (sight.log_heatmap + math.log(h * w)).clamp(min=COLDEST) / -COLDEST
        x = functional.gelu(self.taken(torch.cat([sight.maps, warmth], dim=2).flatten(0, 1)))
        scale, shift = self.heeded(thought).view(len(x), -1, 1, 1).chunk(2, dim=1)
        x = x * (1 + scale) + shift
        for convolution in self.farther:
            x = x + functional.gelu(convolution(x))
        return coarse.flatten(0, 1) + self.added(x)[:, 0], x

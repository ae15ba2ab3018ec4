"""A place relative to the tool, as one more part of the heatmaps: where a motion ends that no thing says the end of."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vla.spatial.projection import CubeViews

FIRST_SHARE = 0.1
STEP_M = 0.1
SPREAD_M = 0.03
"""What shares, steps away from the tool and standard deviations are at first, or in units of."""


class BesideTool(nn.Module):
    """Mixes heatmaps with a Gaussian about the tool's place and a step away from it.

    Share, step (metres along the axes of the world) and standard deviation are read off a vector: lifting what was
    gripped ends straight above the tool, whatever is to be seen there. In no picture is a Gaussian narrower than
    ``sigma_px``.
    """

    def __init__(self, width: int, *, sigma_px: float) -> None:
        super().__init__()
        self.sigma_px = sigma_px
        self.read = nn.Linear(width, 5)
        with torch.no_grad():
            self.read.weight.mul_(0.1)
            self.read.bias.zero_()
            self.read.bias[0] = math.log(FIRST_SHARE / (1 - FIRST_SHARE))

    def forward(
        self,
        log_heatmaps: Float[Tensor, "b v s s"],
        thought: Float[Tensor, "b t"],
        tool_m: Float[Tensor, "b 3"],
        cube: CubeViews,
    ) -> Float[Tensor, "b v s s"]:
        """Logarithms of probabilities over the pixels of each picture, in and out."""
        with torch.autocast(thought.device.type, enabled=False):
            share, spread, step = self.read(thought.float()).split([1, 1, 3], dim=-1)
            place = cube.project((tool_m + STEP_M * step)[:, None]).position[:, :, 0]
            gaussian = self._gaussian(place, SPREAD_M * spread.clamp(-4, 4).exp(), cube, log_heatmaps.shape[-1])
            looked = functional.logsigmoid(-share)[..., None, None] + log_heatmaps
            return torch.logaddexp(looked, functional.logsigmoid(share)[..., None, None] + gaussian)

    def _gaussian(
        self, place: Float[Tensor, "b v 2"], spread_m: Float[Tensor, "b 1"], cube: CubeViews, side_px: int
    ) -> Float[Tensor, "b v s s"]:
        """About places (−1 … 1 from edge to edge), its logarithm."""
        pixels_per_m = side_px / (2 * cube.half_m)
        variance_px2 = (self.sigma_px**2 + (spread_m[:, 0] * pixels_per_m) ** 2)[:, None, None]
        centre_px = torch.arange(side_px, device=place.device) + 0.5
        off_px2 = ((place + 1)[..., None] * (side_px / 2) - centre_px).square()
        x, y = (-off_px2 / (2 * variance_px2[..., None])).log_softmax(dim=-1).unbind(dim=2)
        return y[..., :, None] + x[..., None, :]

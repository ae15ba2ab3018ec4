"""The image encoder of ``nano``: a few convolutions, the same for every view and instruction."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

INITIAL_SURROUNDINGS = 0.1
"""How much less than its own content a cell is told of what lies around it at first."""


class ImageEncoder(nn.Module):
    """Image to feature map at a quarter of its resolution: 4×4 patches, then ``blocks`` 3×3 convolutions, each cell of
    which is also told what lies around it by ``wide`` channels at half of that resolution.

    Patches do not overlap: where in its patch an edge lies is told by the ``channels`` numbers that are kept of it.
    """

    stride = 4
    multiple = 8
    """What the image's sides must be a multiple of."""

    def __init__(self, channels_in: int, channels: int, blocks: int, wide: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels_in, channels, self.stride, self.stride), nn.GELU()]
        for _ in range(blocks):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.GELU()]
        self.layers = nn.Sequential(*layers)
        told = nn.Conv2d(wide, channels, 1)
        with torch.no_grad():
            told.weight.mul_(INITIAL_SURROUNDINGS)
        self.surroundings = nn.Sequential(
            nn.Conv2d(channels, wide, 2, 2),
            nn.GELU(),
            Residual(wide),
            Residual(wide),
            nn.GELU(),
            told,
            nn.Upsample(scale_factor=2),
        )

    def forward(self, image: Float[Tensor, "m ci hi wi"]) -> Float[Tensor, "m c h w"]:
        maps = self.layers(image)
        return maps + self.surroundings(maps)


class Residual(nn.Module):
    """Two 3×3 convolutions added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Float[Tensor, "m c h w"]) -> Float[Tensor, "m c h w"]:
        return x + self.layers(x)

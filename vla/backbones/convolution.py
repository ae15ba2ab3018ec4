"""The image encoder of ``nano``: a few plain convolutions, the same for every view and instruction."""

from jaxtyping import Float
from torch import Tensor, nn


class ImageEncoder(nn.Module):
    """Image to feature map at a quarter of its resolution: 4×4 patches, then ``blocks`` 3×3 convolutions.

    Patches do not overlap: where in its patch an edge lies is told by the ``channels`` numbers that are kept of it.
    """

    stride = 4

    def __init__(self, channels_in: int, channels: int, blocks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels_in, channels, self.stride, self.stride), nn.GELU()]
        for _ in range(blocks):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.GELU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Float[Tensor, "m ci hi wi"]) -> Float[Tensor, "m c h w"]:
        return self.layers(image)

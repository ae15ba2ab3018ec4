"""The image encoder of ``nano``: convolutions that the instruction modulates."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FiLMConv(nn.Module):
    """3×3 convolution, GroupNorm, then FiLM: y = (1 + γ(c)) · x̂ + β(c), ReLU; residual where shapes allow.

    FiLM is feature-wise linear modulation (Perez et al. 2018, Eq. 2) by a condition c.
    """

    def __init__(
        self, channels_in: int, channels: int, condition_width: int, *, kernel: int = 3, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.GroupNorm(4, channels, affine=False)
        self.modulation = nn.Linear(condition_width, 2 * channels)
        self.residual = stride == 1 and channels_in == channels

    def forward(self, x: Float[Tensor, "m ci hi wi"], condition: Float[Tensor, "m d"]) -> Float[Tensor, "m c h w"]:
        gamma, beta = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        y = torch.addcmul(beta, self.norm(self.conv(x)), 1 + gamma).relu()
        return x + y if self.residual else y


class FiLMEncoder(nn.Module):
    """Image to feature map at a quarter of its resolution: two strided blocks, then ``blocks`` residual ones."""

    stride = 4

    def __init__(self, channels_in: int, channels: int, blocks: int, condition_width: int) -> None:
        super().__init__()
        self.stem = FiLMConv(channels_in, channels // 2, condition_width, kernel=5, stride=2)
        self.down = FiLMConv(channels // 2, channels, condition_width, stride=2)
        self.blocks = nn.ModuleList(FiLMConv(channels, channels, condition_width) for _ in range(blocks))

    def forward(self, image: Float[Tensor, "m ci hi wi"], condition: Float[Tensor, "m d"]) -> Float[Tensor, "m c h w"]:
        x = self.down(self.stem(image, condition), condition)
        for block in self.blocks:
            x = block(x, condition)
        return x

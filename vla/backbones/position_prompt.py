"""A frame around the picture that tells where things are in it, learned (VPP-LLaVA's global prompt)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

SHARE = 0.05
"""What the prompt counts for in the frame, beside the picture: VPP-LLaVA's α."""
_WIDTH, _SIDE = 30, 336
"""The published frame: 30 px around a picture of 336 px."""


class PositionPrompt(nn.Module):
    """x′ = 0.95 x + 0.05 p within a frame of the picture, x elsewhere; p, of the picture's size, is learned.

    It begins like a pair of axes: upper and lower edge grow from 0 to 1 with the column in the first channel, left and
    right edge with the row in the second one. Departure: the published prompt dims the whole picture by 0.95, this the
    frame alone, so that a frozen encoder sees the middle as it is.
    """

    frame: Tensor

    def __init__(self, size_px: tuple[int, int]) -> None:
        super().__init__()
        height, width = size_px
        row, column = torch.arange(height)[:, None], torch.arange(width)
        thick_y, thick_x = (max(1, round(side * _WIDTH / _SIDE)) for side in size_px)
        along_x = ((row < thick_y) | (row >= height - thick_y)).expand(height, width)
        along_y = ((column < thick_x) | (column >= width - thick_x)).expand(height, width)
        x, y = column / max(width - 1, 1) * along_x, row / max(height - 1, 1) * along_y
        self.prompt = nn.Parameter(torch.stack([x, y, torch.zeros_like(x)]))
        self.register_buffer("frame", along_x | along_y, persistent=False)

    def forward(self, images: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
        return torch.where(self.frame, (1 - SHARE) * images + SHARE * self.prompt.to(images), images)

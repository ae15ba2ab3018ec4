"""What ``nano`` is told of when its pictures were taken."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

BANDS = 8
SHORTEST_WAVE_S = 0.25
HIDDEN = 32


class Moments(nn.Module):
    """What the age of a frame adds to its tokens: an embedding of the seconds since it was taken, 0 at first.

    Its waves, from ``SHORTEST_WAVE_S`` up, each twice as long as the one before, are such that the present adds nothing
    whatever was learned. 4D-VLA (arXiv 2506.22242) adds a learned token for a frame's offset from the present; as which
    function of the offset is not known to us.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Linear(2 * BANDS, HIDDEN, bias=False), nn.GELU(), nn.Linear(HIDDEN, width, bias=False)
        )
        nn.init.zeros_(self.embed[-1].weight)  # pyright: ignore[reportArgumentType]

    def forward(self, age_s: Float[Tensor, "n t"]) -> Float[Tensor, "n t d"]:
        frequency = 2 * math.pi / SHORTEST_WAVE_S * 0.5 ** torch.arange(BANDS, device=age_s.device)
        phase = age_s[..., None] * frequency
        return self.embed(torch.cat([phase.sin(), 1 - phase.cos()], dim=-1))

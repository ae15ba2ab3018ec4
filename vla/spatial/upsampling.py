"""Fine maps from coarse ones, with edges where the features of the picture have them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

NEIGHBOURS = 9


def convex_upsampled(
    coarse: Float[Tensor, "m h w"], weight_logits: Float[Tensor, "m k h w"], factor: int
) -> Float[Tensor, "m fine_h fine_w"]:
    """A map ``factor`` times as large; each value is a mean of the 3 x 3 coarse ones about it, with weights of its own.

    The k = 9 · factor² ``weight_logits`` of a cell are, neighbour by neighbour (row after row), those of its fine
    values (row after row); softmax over the neighbours makes them weights. After RAFT (arXiv 2003.12039); but cells
    beyond the edge repeat the one inside, where RAFT's are 0, so that the mean of equal values is that value there too.
    """
    if weight_logits.shape[1] != NEIGHBOURS * factor**2:
        raise ValueError(f"expected {NEIGHBOURS} · {factor}² weights per cell, got {weight_logits.shape[1]}")
    h, w = coarse.shape[-2:]
    padded = functional.pad(coarse[:, None], (1, 1, 1, 1), mode="replicate")
    around = functional.unfold(padded, 3).view(-1, NEIGHBOURS, 1, h, w)
    weights = weight_logits.unflatten(1, (NEIGHBOURS, factor**2)).softmax(dim=1)
    return functional.pixel_shuffle((weights * around).sum(dim=1), factor).squeeze(1)


class ConvexUpsampler(nn.Module):
    """Logits of coarse heatmaps to those of fine ones, the weights from the features they were read from.

    Weights start out nearly equal: their logits are scaled by 0.1, as BridgeVLA's are (arXiv 2506.07961).
    """

    WEIGHT_SCALE = 0.1

    def __init__(self, channels: int, factor: int, *, width: int) -> None:
        super().__init__()
        if factor < 1:
            raise ValueError(f"expected a factor from 1 on, got {factor}")
        self.factor = factor
        self.weights = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, NEIGHBOURS * factor**2, 1)
        )

    def forward(
        self, coarse: Float[Tensor, "m h w"], features: Float[Tensor, "m c h w"]
    ) -> Float[Tensor, "m fine_h fine_w"]:
        weight_logits = self.WEIGHT_SCALE * self.weights(features)
        with torch.autocast(coarse.device.type, enabled=False):  # as the softmax over pixels that follows
            return convex_upsampled(coarse.float(), weight_logits.float(), self.factor)

"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864): positions as angles."""

import torch
from jaxtyping import Float
from torch import Tensor

BASE = 10_000.0


def rotated(x: Float[Tensor, "b heads n e"]) -> Float[Tensor, "b heads n e"]:
    """Row i turned by i · BASE^(−2k / e) in the plane of its numbers k and k + e/2, for each k < e/2.

    So a row keeps its norm, and the product of two depends on how far apart they are and not on where. e is even.
    """
    n, half = x.shape[2], x.shape[3] // 2
    rate = BASE ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = torch.arange(n, device=x.device, dtype=torch.float32)[:, None] * rate
    cos, sin = angle.cos().to(x), angle.sin().to(x)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)

"""Which frames of the past to look at: few of a long time, and those that differ."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """``times`` of the k frames chosen from t, ascending, so that the present, t − 1, is the last; where fewer frames
    were there than k, the first of them are 0 and ``mask`` is False.
    """

    times: Int[Tensor, "b k"]
    mask: Bool[Tensor, "b k"]


COMPARED_PX = 6
"""Side of the small pictures by which frames are compared."""


def picture_features(images: UInt8[Tensor, "n v h w 3"]) -> Float[Tensor, "n d"]:
    """What tells frames apart: all views, averaged down to squares of ``COMPARED_PX``, relative to a middling grey.

    4D-VLA compares features of its encoder. Pictures alone can be compared before a network is there, and without
    running it on moments that it is not shown.
    """
    pixels = images.movedim(-1, -3).flatten(1, 2).float() / 255 - 0.5
    return functional.adaptive_avg_pool2d(pixels, COMPARED_PX).flatten(1)


@torch.no_grad()
def sample_frames(features: Float[Tensor, "b t d"], valid: Bool[Tensor, "b t"], budget: int) -> Remembered:
    """The present and up to ``budget`` − 1 earlier frames that are unlike one another.

    From the present back, each frame joins the bank until it is full. From then on one joins if its cosine similarity
    to the oldest in the bank is less than the greatest between neighbours there, of which the older then leaves; of
    pairs equally alike, the one nearer to the present. ``valid`` says which frames there are: the present must be.
    ``ValueError`` for a budget below 1.

    4D-VLA's memory bank sampling (arXiv 2506.22242), as far as it is described: that a redundant neighbour makes way is
    our reading of it.
    """
    if budget < 1:
        raise ValueError(f"expected a budget of at least 1 frame, got {budget}")
    b, t, _ = features.shape
    unit = functional.normalize(features.float(), dim=-1)
    with torch.autocast(unit.device.type, enabled=False):
        alike = unit @ unit.mT
    bank = torch.full((b, budget), t - 1, device=features.device)
    count = torch.ones(b, dtype=torch.long, device=features.device)
    for time in range(t - 2, -1, -1):
        bank, count = _offered(bank, count, time, alike, valid[:, time])
    slot = torch.arange(budget, device=bank.device)
    return Remembered(times=torch.where(slot < count[:, None], bank, 0).flip(-1), mask=(slot < count[:, None]).flip(-1))


def _offered(
    bank: Int[Tensor, "b k"],
    count: Int[Tensor, " b"],
    time: int,
    alike: Float[Tensor, "b t t"],
    valid: Bool[Tensor, " b"],
) -> tuple[Int[Tensor, "b k"], Int[Tensor, " b"]]:
    """The bank, newest first, after one earlier frame has been offered to it, and how many it holds."""
    budget = bank.shape[1]
    if budget == 1:
        return bank, count
    sample = torch.arange(len(bank), device=bank.device)
    slot = torch.arange(budget, device=bank.device)
    full = count == budget
    pairs = alike[sample[:, None], bank[:, :-1], bank[:, 1:]]
    most, pair = pairs.max(dim=-1)
    enters = valid & (~full | (alike[sample, bank[:, -1], time] < most))
    gap = torch.where(full, pair + 1, count)  # who leaves, or the first free place
    shifted = torch.where(slot >= gap[:, None], bank.roll(-1, dims=1), bank)
    last = torch.where(full, budget - 1, count)
    joined = torch.where(slot == last[:, None], time, torch.where(full[:, None], shifted, bank))
    return torch.where(enters[:, None], joined, bank), count + (enters & ~full)

"""Token merging (ToMe, Bolya et al. 2023, arXiv 2210.09461): similar tokens become one, batched and without learning.

Every other token looks for the one most similar to it among the rest; the most similar pairs become one token each,
their mean by how many tokens either stands for already. What is merged comes in the order of the tokens that stay.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Groups:
    """To which of ``count`` groups each of n tokens belongs; every group has at least one."""

    index: Int[Tensor, "m n"]
    count: int

    def total(self, size: Float[Tensor, "m n"]) -> Float[Tensor, "m k"]:
        """The sum over each group."""
        return size.new_zeros(len(size), self.count).scatter_add(1, self.index, size)

    def mean(self, x: Float[Tensor, "m n d"], size: Float[Tensor, "m n"]) -> Float[Tensor, "m k d"]:
        """The mean over each group, each token by its ``size``; 0 for a group of none but tokens of size 0."""
        index = self.index[..., None].expand(x.shape)
        summed = x.new_zeros(len(x), self.count, x.shape[-1]).scatter_add(1, index, x * size[..., None].to(x))
        total = self.total(size)
        return summed / total.masked_fill(total == 0, 1.0)[..., None].to(x)

    def at(self, rows: Int[Tensor, " k"]) -> "Groups":
        """Those of each row; one may come several times."""
        return Groups(index=self.index[rows], count=self.count)


@torch.no_grad()
def bipartite_groups(metric: Float[Tensor, "m n c"], size: Float[Tensor, "m n"], r: int, kept: int = 0) -> Groups:
    """ToMe's bipartite soft matching by the cosine of ``metric``: r tokens join others (§3.2), at most half of them.

    Tokens at even places (A) join tokens at odd ones (B). Those of ``size`` 0 are not there: none joins them while
    another is at hand, and they go before any other does. The first ``kept`` stay as they are, whatever they resemble.
    """
    m, n = size.shape
    r = min(r, (n - kept) // 2)
    own = torch.arange(n, device=size.device).expand(m, n)
    if r < 1:
        return Groups(index=own, count=n)
    there, towards = size[:, kept:] > 0, torch.nn.functional.normalize(metric[:, kept:].float(), dim=-1)
    alike = towards[:, ::2] @ towards[:, 1::2].mT
    best, partner = alike.masked_fill(~there[:, None, 1::2], float("-inf")).max(dim=-1)
    best = best.masked_fill(~there[:, ::2], float("inf"))
    going = best.argsort(dim=-1, descending=True, stable=True)[:, :r]
    leads_to = own.scatter(1, kept + 2 * going, kept + 2 * partner.gather(1, going) + 1)
    place = (leads_to == own).cumsum(dim=1) - 1
    return Groups(index=place.gather(1, leads_to), count=n - r)


def rounds(n: int, target: int) -> list[int]:
    """How many tokens go in each round until ``target`` of n are left: at most half of them at once."""
    going = []
    while n > target:
        going.append(min(n - target, n // 2))
        n -= going[-1]
    return going


def counted(bias: Float[Tensor, "b 1 m n"], size: Float[Tensor, "b k"] | None) -> Float[Tensor, "b 1 m n"]:
    """``bias`` of attention logits, with attention in proportion to what the first k tokens count for (§3.3): plus the
    logarithm of their ``size``. The others count for one, and so do those that are not there, which ``bias`` masks.
    """
    if size is None:
        return bias
    weight = size.clamp(min=1.0).log().to(bias)
    return bias + torch.nn.functional.pad(weight, (0, bias.shape[-1] - size.shape[1]))[:, None, None]

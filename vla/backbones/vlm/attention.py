"""Who attends to whom in a pretrained decoder: patterns of its prefix, of what follows, and their float masks."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Pattern = Literal["causal", "blocks", "prefix"]
"""How images and text attend: to what came before; images also to the rest of themselves; or all to all."""


def prefix_pattern(
    pattern: Pattern, view: Int[Tensor, " n"], mask: Bool[Tensor, "b n"], last: int
) -> Bool[Tensor, "b n n"]:
    """Which token (row) attends to which (column) in a sequence with the image of ``view`` (−1: none) at each place.

    The ``last`` tokens, which no checkpoint knows, attend to all before them, and none of those to them.
    """
    n = len(view)
    allowed = torch.ones(n, n, dtype=torch.bool, device=view.device).tril()
    if pattern == "blocks":
        allowed |= (view[:, None] == view) & (view >= 0)
    if pattern == "prefix":
        allowed[: n - last, : n - last] = True
    return allowed & mask[:, None]


def with_suffix(
    prefix: Bool[Tensor, "b n n"], mask: Bool[Tensor, "b n"], suffix: Bool[Tensor, "b m"], *, causal: bool
) -> Bool[Tensor, "b k k"]:
    """The pattern of ``prefix`` followed by a suffix of m tokens, which attends to it; k = n + m."""
    n, m = mask.shape[1], suffix.shape[1]
    allowed = torch.nn.functional.pad(prefix, (0, m, 0, m))
    allowed[:, n:] = suffix_pattern(mask, suffix, causal=causal)
    return allowed


def suffix_pattern(mask: Bool[Tensor, "b n"], suffix: Bool[Tensor, "b m"], *, causal: bool) -> Bool[Tensor, "b m k"]:
    """To which of the prefix's and of its own tokens each token of the suffix attends."""
    m = suffix.shape[1]
    own = torch.ones(m, m, dtype=torch.bool, device=mask.device)
    own = own.tril() if causal else own
    return torch.cat([mask[:, None].expand(-1, m, -1), own & suffix[:, None]], dim=2)


def within(
    window: int, allowed: Bool[Tensor, "b m k"], mask: Bool[Tensor, "b k"], whole: int = 0
) -> Bool[Tensor, "b m k"]:
    """The same for a layer that attends to the last ``window`` tokens alone; the rows are the last m of the k.

    Tokens that are not there do not count. Among the first ``whole`` tokens, which attend to one another, no window
    holds.
    """
    m, k = allowed.shape[1:]
    index = mask.cumsum(dim=1)
    near = allowed & (index[:, None] > index[:, k - m :, None] - window)
    near[:, :whole, :whole] = allowed[:, :whole, :whole]
    return near


def bias_of(allowed: Bool[Tensor, "b m k"], dtype: torch.dtype) -> Float[Tensor, "b 1 m k"]:
    """What is added to attention logits: 0 to attend, the lowest number to ignore (a boolean would be added as 0/1)."""
    bias = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return bias.masked_fill(~allowed, torch.finfo(dtype).min)[:, None]

"""The pre-norm transformer block that ``nano`` is made of, what attends to what, and what is kept of it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

KeysValues = tuple[Float[Tensor, "b heads n e"], Float[Tensor, "b heads n e"]]
"""Of one block, for n tokens."""


def feed_forward(width: int, ratio: int = 2) -> nn.Sequential:
    """LayerNorm, Linear, GELU, Linear; to be added to its input."""
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width)
    )


def split_heads(x: Float[Tensor, "b n d"], heads: int) -> Float[Tensor, "b heads n e"]:
    """Split the width into ``heads`` parts of e = d / heads."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Float[Tensor, "b heads n e"]) -> Float[Tensor, "b n d"]:
    """Inverse of :func:`split_heads`."""
    return x.transpose(1, 2).flatten(2)


class Block(nn.Module):
    """Self-attention and feed-forward, each normalised before and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = feed_forward(width)

    def forward(self, x: Float[Tensor, "b n d"], bias: Float[Tensor, "b 1 m n"]) -> Float[Tensor, "b n d"]:
        """``bias`` is added to the attention logits: 0 to attend, −inf to ignore (m is n or 1)."""
        return self.extend(x, bias)[0]

    def extend(
        self, x: Float[Tensor, "b m d"], bias: Float[Tensor, "b 1 m n"], past: KeysValues | None = None
    ) -> tuple[Float[Tensor, "b m d"], KeysValues]:
        """As :meth:`forward`, but attending to ``past`` tokens too, which come first among the n of ``bias``; with the
        keys and values of all of them.
        """
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(self.norm(x)).chunk(3, dim=-1))
        if past is not None:
            k, v = (torch.cat(pair, dim=2) for pair in zip(past, (k, v), strict=True))
        bias = bias.expand(-1, -1, x.shape[1], -1)
        attended = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + self.out(merge_heads(attended))
        return x + self.feed_forward(x), (k, v)


@dataclass(frozen=True, kw_only=True)
class BlockCache:
    """Keys and values of a sequence in every block, which of its tokens are real, and what they count for
    (:func:`vla.backbones.merging.counted`).
    """

    keys_values: tuple[KeysValues, ...]
    mask: Bool[Tensor, "b n"]
    size: Float[Tensor, "b n"] | None = None

    def at(self, rows: Int[Tensor, " m"]) -> "BlockCache":
        """That of each row; one may come several times."""
        return BlockCache(
            keys_values=tuple((keys[rows], values[rows]) for keys, values in self.keys_values),
            mask=self.mask[rows],
            size=None if self.size is None else self.size[rows],
        )


def prefix_bias(mask: Bool[Tensor, "b n"], suffix: int, dtype: torch.dtype) -> Float[Tensor, "b 1 n n"]:
    """Attention bias of a prefix-LM: −inf on padding, and from the prefix to the last ``suffix`` tokens."""
    n = mask.shape[1]
    allowed = mask[:, None, None, :].repeat(1, 1, n, 1)
    allowed[:, :, : n - suffix, n - suffix :] = False
    return _bias(allowed, dtype)


def suffix_bias(
    mask: Bool[Tensor, "b n"], suffix: int, dtype: torch.dtype, *, causal: bool
) -> Float[Tensor, "b 1 m n"]:
    """Attention bias of the last m = ``suffix`` tokens alone: −inf on padding; ``causal`` ones do not attend to those
    after them either.
    """
    allowed = mask[:, None, None, :].repeat(1, 1, suffix, 1)
    if causal:
        allowed[..., mask.shape[1] - suffix :] &= torch.ones(suffix, suffix, device=mask.device).tril().bool()
    return _bias(allowed, dtype)


def _bias(allowed: Bool[Tensor, "b 1 m n"], dtype: torch.dtype) -> Float[Tensor, "b 1 m n"]:
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, float("-inf"))

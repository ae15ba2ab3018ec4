"""The pre-norm transformer block that ``nano`` is made of, and what attends to what."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


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
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(self.norm(x)).chunk(3, dim=-1))
        bias = bias.expand(-1, -1, x.shape[1], -1)
        attended = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + self.out(merge_heads(attended))
        return x + self.feed_forward(x)


def prefix_bias(
    mask: Bool[Tensor, "b n"], suffix: int, dtype: torch.dtype, *, causal: bool = False
) -> Float[Tensor, "b 1 n n"]:
    """Attention bias of a prefix-LM: −inf on padding, and from the prefix to the last ``suffix`` tokens.

    ``causal`` ones of those do not attend to those after them either.
    """
    n = mask.shape[1]
    allowed = mask[:, None, None, :].repeat(1, 1, n, 1)
    allowed[:, :, : n - suffix, n - suffix :] = False
    if causal:
        allowed[:, :, n - suffix :, n - suffix :] &= torch.ones(suffix, suffix, device=mask.device).tril().bool()
    return torch.zeros(allowed.shape, dtype=dtype, device=mask.device).masked_fill(~allowed, float("-inf"))

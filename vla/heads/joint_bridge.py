"""Bridge Attention as VLA-Adapter's released code has it: one softmax over all that an action looks at."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.backbones.transformer import feed_forward, merge_heads, split_heads
from vla.heads.rotary import rotated


class JointBridgeLayer(nn.Module):
    """x ← x + W softmax[q·k_raw tanh g, q·k_AQ, q·k_self] v, and a residual feed-forward; g = 0 at the start.

    The gate multiplies the *logits* of the raw tokens: where it is closed they are 0, so that these tokens weigh all
    alike, which is not the same as nothing (paper Eq. 1, :class:`vla.heads.bridge.BridgeLayer`). Keys and values have
    one projection for all sources; with ``pro``, as in VLA-Adapter-Pro, each source has its own, and queries and keys
    turn with their place in their source. The released code pairs a half-split table of angles with an interleaved
    rotation, so that its scores depend on absolute places; this is a rotation. Departures as in
    :class:`vla.heads.bridge.BridgeHead`, and the feed-forward has a residual path and a hidden layer.
    """

    def __init__(self, width: int, heads: int, raw: bool = True, *, pro: bool = False) -> None:
        super().__init__()
        if pro and width % (2 * heads):
            raise ValueError(f"a rotary embedding needs heads of even width, got {heads} heads of the width {width}")
        self.heads, self.pro = heads, pro
        self.norm, self.query_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.raw_norm = nn.LayerNorm(width) if raw else None
        self.gate = nn.Parameter(torch.zeros(())) if raw else None
        self.query = nn.Linear(width, width)
        self.key_values = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range((2 + raw) if pro else 1))
        self.out = nn.Linear(width, width)
        self.feed_forward = feed_forward(width)

    def forward(
        self,
        x: Float[Tensor, "b h d"],
        raw: Float[Tensor, "b m d"],
        raw_bias: Float[Tensor, "b 1 1 m"],
        queries: Float[Tensor, "b q d"],
        proprio: Float[Tensor, "b 1 d"],
    ) -> Float[Tensor, "b h d"]:
        """As that of :class:`vla.heads.bridge.BridgeLayer`."""
        y = self.norm(x)
        sources = [y, self.query_norm(torch.cat([queries, proprio], dim=1))]
        if self.raw_norm is not None:
            sources.append(self.raw_norm(raw))
        query = self._placed(split_heads(self.query(y), self.heads))
        logits, values = zip(*(self._answer(query, source, i) for i, source in enumerate(sources)), strict=True)
        if self.gate is not None:
            logits = (*logits[:2], logits[2] * self.gate.tanh() + raw_bias)
        weights = torch.cat(logits, dim=-1).softmax(dim=-1)
        x = x + self.out(merge_heads(weights @ torch.cat(values, dim=2)))
        return x + self.feed_forward(x)

    def _answer(
        self, query: Float[Tensor, "b heads h e"], source: Float[Tensor, "b n d"], index: int
    ) -> tuple[Float[Tensor, "b heads h n"], Float[Tensor, "b heads n e"]]:
        """Logits and values of a source."""
        key_value = self.key_values[index if self.pro else 0](source)
        key, value = (split_heads(part, self.heads) for part in key_value.chunk(2, dim=-1))
        return query @ self._placed(key).mT / math.sqrt(query.shape[-1]), value

    def _placed(self, x: Float[Tensor, "b heads n e"]) -> Float[Tensor, "b heads n e"]:
        return rotated(x) if self.pro else x

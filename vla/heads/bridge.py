"""The bridge head: VLA-Adapter's policy (Wang et al. 2025, arXiv 2509.09372, §3.3)."""

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.backbone import Backbone
from vla.backbones.transformer import feed_forward, merge_heads, split_heads
from vla.features import Features, TokenRole
from vla.head import FeaturesHead
from vla.heads.joint_bridge import JointBridgeLayer
from vla.heads.regression import masked_l1
from vla.observation import ActionChunk

Conditions = Literal["both", "raw", "queries"]
Layers = Literal["all", "last"]
Attention = Literal["paper", "released", "pro"]


@dataclass(frozen=True, kw_only=True)
class BridgeConfig:
    """Attention ``heads`` of :class:`BridgeHead`; its width and depth are the backbone's.

    What it looks at, as the paper compares it: ``conditions`` are raw tokens, queries or both, of the backbone's layer
    of the same depth (``layers`` "all") or always of its last one. The state is seen in every case. ``attention`` is
    the paper's equation, or what the authors' released code has instead, or their Pro version: see
    :class:`vla.heads.joint_bridge.JointBridgeLayer`.
    """

    heads: int = 4
    conditions: Conditions = "both"
    layers: Layers = "all"
    attention: Attention = "paper"

    def __post_init__(self) -> None:
        for name, choices in (("conditions", Conditions), ("layers", Layers), ("attention", Attention)):
            if (given := getattr(self, name)) not in get_args(choices):
                raise ValueError(
                    f"expected {name} of the bridge head out of {', '.join(get_args(choices))}, got {given!r}"
                )

    def build(self, *, backbone: Backbone, state_dim: int, horizon: int, action_dim: int) -> "BridgeHead":
        """The head with fresh weights for the features of ``backbone``."""
        return BridgeHead(self, backbone=backbone, state_dim=state_dim, horizon=horizon, action_dim=action_dim)


class BridgeHead(FeaturesHead):
    """A policy stream of one slot per action, whose layer i looks at layer i of the backbone, or at the last one.

    Raw tokens C^R are the backbone's image and keypoint tokens (the paper's visual positions), action
    queries C^AQ its query tokens. Loss: L1 on the chunk (paper Eq. 3).

    Departures: the stream starts from learned slots instead of zeros with noise; C^R and C^AQ are
    normalised (LayerNorm) at each layer, since hidden states of a pre-norm network are not.
    """

    reads = (TokenRole.IMAGE, TokenRole.KEYPOINT, TokenRole.QUERY)

    def __init__(
        self, config: BridgeConfig, *, backbone: Backbone, state_dim: int, horizon: int, action_dim: int
    ) -> None:
        super().__init__()
        self.config, self.horizon, self.action_dim = config, horizon, action_dim
        width = backbone.width
        if width % config.heads:
            raise ValueError(f"heads must divide the width {width}, got {config.heads}")
        self.slots = nn.Parameter(torch.randn(horizon, width))
        self.input = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())
        self.proprio = nn.Sequential(nn.Linear(state_dim, width), nn.GELU(), nn.Linear(width, width))
        raw = config.conditions != "queries"
        make = BridgeLayer if config.attention == "paper" else partial(JointBridgeLayer, pro=config.attention == "pro")
        self.layers = nn.ModuleList(make(width, config.heads, raw=raw) for _ in range(backbone.depth))
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, action_dim))

    def loss(self, features: Features, target: ActionChunk) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        return masked_l1(self.act(features), target)

    def act(self, features: Features) -> Float[Tensor, "b h a"]:
        return self.output(self.hidden(features))

    @property
    def hidden_shape(self) -> tuple[int, int]:
        return self.slots.shape[0], self.slots.shape[1]

    @property
    def last(self) -> nn.Module:
        return self.output

    def hidden(self, features: Features) -> Float[Tensor, "b h d"]:
        raw, raw_mask = features.select(TokenRole.IMAGE, TokenRole.KEYPOINT)
        queries, _ = features.select(*([] if self.config.conditions == "raw" else [TokenRole.QUERY]))
        if self.config.layers == "last":
            raw, queries = (hidden[-1:].expand_as(hidden) for hidden in (raw, queries))
        proprio = self.proprio(features.state)[:, None]
        raw_bias = torch.zeros_like(raw_mask, dtype=raw.dtype).masked_fill(~raw_mask, torch.finfo(raw.dtype).min)
        x = self.input(self.slots).expand(len(proprio), -1, -1)
        for layer, raw_i, queries_i in zip(self.layers, raw, queries, strict=True):
            x = layer(x, raw_i, raw_bias[:, None, None], queries_i, proprio)
        return x


class BridgeLayer(nn.Module):
    """One layer of Bridge Attention, paper Eq. 1, and a residual feed-forward:

    x ← x + W [CA₁(x, C^R) · tanh g, CA₂(x, [C^AQ, p]), SA(x)] with g = 0 at the start.

    The authors' code instead multiplies the raw tokens' *attention logits* by tanh g inside one
    softmax over all keys, where g = 0 means uniform weight, not no influence
    (:class:`vla.heads.joint_bridge.JointBridgeLayer`). This is the paper's
    equation: at g = 0 raw tokens have none, and tanh′(0) = 1 lets g move. Without ``raw`` there is no CA₁.
    """

    def __init__(self, width: int, heads: int, raw: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query_norm = nn.LayerNorm(width)
        self.parts = 3 if raw else 2
        self.query = nn.Linear(width, self.parts * width)
        if raw:
            self.raw_norm = nn.LayerNorm(width)
            self.raw_key_value = nn.Linear(width, 2 * width)
            self.gate = nn.Parameter(torch.zeros(()))
        self.query_key_value = nn.Linear(width, 2 * width)
        self.self_key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(self.parts * width, width)
        self.feed_forward = feed_forward(width)

    def forward(
        self,
        x: Float[Tensor, "b h d"],
        raw: Float[Tensor, "b m d"],
        raw_bias: Float[Tensor, "b 1 1 m"],
        queries: Float[Tensor, "b q d"],
        proprio: Float[Tensor, "b 1 d"],
    ) -> Float[Tensor, "b h d"]:
        """``raw_bias`` is added to the raw tokens' logits: 0 to attend, very negative to ignore."""
        y = self.norm(x)
        *to_raw, to_queries, to_self = self.query(y).chunk(self.parts, dim=-1)
        condition = self.query_norm(torch.cat([queries, proprio], dim=1))
        attended = [
            self._attend(to_queries, self.query_key_value(condition)),
            self._attend(to_self, self.self_key_value(y)),
        ]
        if to_raw:
            bias = raw_bias.expand(-1, -1, x.shape[1], -1)
            seen = self._attend(to_raw[0], self.raw_key_value(self.raw_norm(raw)), bias)
            attended.insert(0, seen * self.gate.tanh())
        x = x + self.out(torch.cat(attended, dim=-1))
        return x + self.feed_forward(x)

    def _attend(
        self, query: Float[Tensor, "b h d"], key_value: Float[Tensor, "b n e"], bias: Tensor | None = None
    ) -> Float[Tensor, "b h d"]:
        q, k, v = (split_heads(part, self.heads) for part in (query, *key_value.chunk(2, dim=-1)))
        return merge_heads(nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias))

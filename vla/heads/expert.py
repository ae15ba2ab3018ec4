"""The action expert of flow-matching heads: noisy actions in, their velocity out, looking at every layer of a backbone.

As in π0 (Black et al. 2024, arXiv 2410.24164), layer i's actions attend, in one softmax, to each other and to what
layer i of the backbone holds.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.backbones.transformer import KeysValues, feed_forward, merge_heads, split_heads
from vla.features import Features

MIN_PERIOD, MAX_PERIOD = 4e-3, 4.0
"""Of the sines of the flow's time, which runs from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What actions attend to besides themselves: keys and values for each layer, and the bias on them, 0 or −inf."""

    keys_values: tuple[KeysValues, ...]
    bias: Float[Tensor, "b 1 1 m"]


class ActionExpert(nn.Module):
    """A stream of one slot per action, as deep as the backbone and of its own ``width``.

    What it sees of an observation, its :meth:`conditions`, depends on neither actions nor time: it is worked out once
    and serves every step of the flow.
    """

    def __init__(
        self, *, width: int, heads: int, backbone: tuple[int, int], state_dim: int, horizon: int, action_dim: int
    ) -> None:
        """``backbone`` is the width and depth of that. ``ValueError`` where heads do not divide the width."""
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"twice the heads must divide the width {width} of the expert, got {heads} heads")
        seen_width, depth = backbone
        self.width, self.heads = width, heads
        self.state = nn.Sequential(nn.Linear(state_dim, seen_width), nn.GELU(), nn.Linear(seen_width, seen_width))
        self.action = nn.Linear(action_dim, width)
        self.slots = nn.Parameter(torch.randn(horizon, width))  # as large as the noise that they are added to
        self.mix = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(ExpertLayer(width, heads, seen_width) for _ in range(depth))
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, action_dim))

    def conditions(self, features: Features) -> Conditions:
        """Of all tokens of every layer, and of the state."""
        state = self.state(features.state)[:, None]
        seen = [torch.cat([hidden, state], dim=1) for hidden in features.hidden]
        mask = torch.cat([features.mask, features.mask.new_ones(len(state), 1)], dim=1)[:, None, None]
        bias = torch.zeros(mask.shape, dtype=state.dtype, device=state.device).masked_fill(~mask, float("-inf"))
        keys_values = tuple(layer.look(x) for layer, x in zip(self._each_layer(), seen, strict=True))
        return Conditions(keys_values=keys_values, bias=bias)

    def forward(
        self, actions: Float[Tensor, "b h a"], time: Float[Tensor, " b"], conditions: Conditions
    ) -> Float[Tensor, "b h a"]:
        """The velocity of ``actions`` at ``time`` (0 noise … 1 data)."""
        x = self.action(actions) + self.slots
        moment = time_embedding(time, self.width).to(x)[:, None].expand_as(x)
        x = self.mix(torch.cat([x, moment], dim=-1))
        for layer, seen in zip(self._each_layer(), conditions.keys_values, strict=True):
            x = layer(x, seen, conditions.bias)
        return self.output(x)

    def _each_layer(self) -> "list[ExpertLayer]":
        return list(self.layers)  # pyright: ignore[reportReturnType]


class ExpertLayer(nn.Module):
    """Attention to what is seen and to all actions, and feed-forward, each normalised before and added to its input."""

    def __init__(self, width: int, heads: int, seen_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.seen_norm = nn.LayerNorm(width), nn.LayerNorm(seen_width)
        self.qkv = nn.Linear(width, 3 * width)
        self.seen_key_value = nn.Linear(seen_width, 2 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = feed_forward(width)

    def look(self, seen: Float[Tensor, "b m e"]) -> KeysValues:
        """Keys and values of what is seen."""
        key, value = self.seen_key_value(self.seen_norm(seen)).chunk(2, dim=-1)
        return split_heads(key, self.heads), split_heads(value, self.heads)

    def forward(
        self, x: Float[Tensor, "b h d"], seen: KeysValues, bias: Float[Tensor, "b 1 1 m"]
    ) -> Float[Tensor, "b h d"]:
        """``bias`` is added to the logits of what is seen."""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(self.norm(x)).chunk(3, dim=-1))
        k, v = (torch.cat(pair, dim=2) for pair in zip(seen, (k, v), strict=True))
        bias = nn.functional.pad(bias, (0, x.shape[1])).expand(-1, -1, x.shape[1], -1)
        x = x + self.out(merge_heads(nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)))
        return x + self.feed_forward(x)


def time_embedding(time: Float[Tensor, " b"], width: int) -> Float[Tensor, "b d"]:
    """Sines and cosines whose periods grow by a constant factor from ``MIN_PERIOD`` to ``MAX_PERIOD``."""
    share = torch.linspace(0, 1, width // 2, device=time.device, dtype=time.dtype)
    angle = 2 * math.pi * time[:, None] / (MIN_PERIOD * (MAX_PERIOD / MIN_PERIOD) ** share)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)

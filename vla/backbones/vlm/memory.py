"""What runs through a pretrained decoder: a prefix before it, and what the decoder keeps of it."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

from vla.features import TokenLayout, TokenRole


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a decoder keeps of all tokens so far: keys and values of each layer, which of them are there, the place of
    the next one, and what the first ones count for, if not for one each.
    """

    keys: tuple[Float[Tensor, "b h n e"], ...]
    values: tuple[Float[Tensor, "b h n e"], ...]
    mask: Bool[Tensor, "b n"]
    following: Int[Tensor, " b"]
    size: Float[Tensor, "b k"] | None = None

    def at(self, rows: Int[Tensor, " k"]) -> "Memory":
        """That of each row; one may come several times."""
        keys, values = (tuple(x[rows] for x in layers) for layers in (self.keys, self.values))
        size = None if self.size is None else self.size[rows]
        return Memory(keys=keys, values=values, mask=self.mask[rows], following=self.following[rows], size=size)


@dataclass(frozen=True, kw_only=True)
class TokenSequence:
    """A prefix before the decoder. ``deep`` are those of :class:`vla.backbones.vlm.families.Seen`, ``size`` is what
    each token counts for, where images were reduced to fewer.
    """

    embedded: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"]
    places: Real[Tensor, "*r b n"]
    following: Int[Tensor, " b"]
    layout: TokenLayout
    deep: tuple[Float[Tensor, "p d"], ...]
    size: Float[Tensor, "b n"] | None = None


def longer(layout: TokenLayout, role: TokenRole, many: int) -> TokenLayout:
    """The layout followed by ``many`` tokens of ``role``."""
    pad = torch.nn.functional.pad
    return TokenLayout(
        role=pad(layout.role, (0, many), value=int(role)),
        view=pad(layout.view, (0, many), value=-1),
        cell=pad(layout.cell, (0, 0, 0, many), value=-1),
    )


def cache_of(memory: Memory | None) -> Any:
    """Transformers' cache of all layers at full length, empty or with what is kept, which stays as it is."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache()
    for keys, values in zip(memory.keys, memory.values, strict=True) if memory else ():
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


def memory_of(
    cache: Any, mask: Bool[Tensor, "b n"], following: Int[Tensor, " b"], size: Float[Tensor, "b k"] | None
) -> Memory:
    keys, values = (tuple(getattr(layer, name) for layer in cache.layers) for name in ("keys", "values"))
    return Memory(keys=keys, values=values, mask=mask, following=following, size=size)

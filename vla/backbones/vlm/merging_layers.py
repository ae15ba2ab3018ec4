"""Token merging between the layers of a pretrained vision encoder, as ToMe has it (arXiv 2210.09461)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla.backbones.merging import Groups, bipartite_groups
from vla.backbones.token_reduction import Reduced, untouched


@dataclass
class LayerMerging:
    """What the layers of an encoder are merging while images go through. The ``first`` tokens, such as a class token,
    are merged with none.
    """

    r: int
    first: int
    whole: Reduced
    keys: Float[Tensor, "m n c"] | None = None

    @property
    def reduced(self) -> Reduced:
        """How the tokens of places in the picture became fewer."""
        first = self.first
        stages = tuple(
            (Groups(index=groups.index[:, first:] - first, count=groups.count - first), size[:, first:])
            for groups, size in self.whole.stages
        )
        return Reduced(stages=stages, size=self.whole.size[:, first:])

    def keep_keys(self, layer: Any) -> Any:
        """A hook that keeps the keys of a layer's attention, their mean over heads: what ToMe compares."""

        def hook(module: nn.Module, given: Any, keys: Float[Tensor, "m n e"]) -> None:
            self.keys = keys.detach().unflatten(-1, (layer.self_attn.num_heads, -1)).mean(dim=2)

        return hook

    def merge(self, module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """A hook before a layer: fewer tokens go in, and attention to them is in proportion to what they stand for."""
        assert self.keys is not None
        x, _, *rest = given
        size = self.whole.size
        groups = bipartite_groups(self.keys, size, self.r, self.first)
        self.whole = self.whole.then(groups)
        weight = self.whole.size.clamp(min=1.0).log().to(x)
        bias = weight[:, None, None].expand(-1, -1, groups.count, -1)
        return (groups.mean(x, size), bias, *rest)


@contextmanager
def merging_layers(
    layers: Sequence[nn.Module], r: int, first: int, there: Bool[Tensor, " m"], tokens: int
) -> Iterator[LayerMerging]:
    """Inside, images of so many tokens go through ``layers`` with ``r`` of them merged after each but the last.

    Departure: ToMe merges between attention and feed-forward, this behind both.
    """
    merging = LayerMerging(r=r, first=first, whole=untouched(there, tokens + first))
    hooks = []
    try:
        for layer, following in pairwise(layers):
            attention: Any = layer.self_attn
            hooks.append(attention.k_proj.register_forward_hook(merging.keep_keys(layer)))
            hooks.append(following.register_forward_pre_hook(merging.merge))
        yield merging
    finally:
        for hook in hooks:
            hook.remove()


def left(tokens: int, layers: int, r: int) -> int:
    """How many of an image's tokens leave so many layers."""
    for _ in range(layers - 1):
        tokens -= min(r, tokens // 2)
    return tokens

"""Which linear layers of a network low-rank updates belong to."""

from collections.abc import Iterator

from torch import nn

from vla.adapters.low_rank import Target
from vla.backbones.transformer import Block
from vla.heads.bridge import BridgeLayer
from vla.heads.joint_bridge import JointBridgeLayer

_FEED_FORWARD = "feed_forward.1"
"""The first linear layer of :func:`vla.backbones.transformer.feed_forward`."""


def modulated(network: nn.Module) -> list[Target]:
    """Queries, values and the feed-forward's input of every layer of ``nano`` and of the bridge head, if there is one:
    what L2M updates. Keys are left as they are.
    """
    return [target for name, module in network.named_modules() for target in _of_layer(name, module)]


def every_linear(network: nn.Module, without: str = "objectives") -> list[Target]:
    """All linear layers but those in the part ``without``; queries, keys and values that one layer makes apart."""
    parts = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and not name.startswith(f"{without}."):
            parts[name] = 1
        parts |= dict(_fused(name, module))
    return [Target(name=name, of=of, parts=tuple(range(of))) for name, of in parts.items()]


def _of_layer(name: str, module: nn.Module) -> Iterator[Target]:
    if isinstance(module, Block):
        yield Target(name=f"{name}.qkv", of=3, parts=(0, 2))
    elif isinstance(module, BridgeLayer | JointBridgeLayer):
        for layer, of in _fused(name, module):
            queries = layer == f"{name}.query"
            yield Target(name=layer, of=of, parts=tuple(range(of)) if queries else (1,))
        if isinstance(module, JointBridgeLayer):
            yield Target(name=f"{name}.query")
    else:
        return
    yield Target(name=f"{name}.{_FEED_FORWARD}")


def _fused(name: str, module: nn.Module) -> Iterator[tuple[str, int]]:
    """The layers in a layer of a transformer whose outputs are several things, and how many."""
    if isinstance(module, Block):
        yield f"{name}.qkv", 3
    elif isinstance(module, BridgeLayer):
        yield f"{name}.query", module.parts
        names = ("raw_key_value", "query_key_value", "self_key_value")
        yield from ((f"{name}.{each}", 2) for each in names if hasattr(module, each))
    elif isinstance(module, JointBridgeLayer):
        yield from ((f"{name}.key_values.{index}", 2) for index in range(len(module.key_values)))

"""What learns in each task of a sequence, and what becomes of it when the task ends.

``full`` is the whole network. ``lora``: low-rank updates (Hu et al. 2021, arXiv 2106.09685) of all linear layers of
backbone and head, merged after each task. ``codyra`` (Lu et al., arXiv 2412.01004): the same with importances of the
single ranks, which a proximal step for their L1 norm shrinks after every step of the optimiser. ``l2m``: the pool of
:mod:`vla.adapters.pool`, and nothing else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from policies.imitation.lifelong.config import LifelongConfig
from policies.imitation.stages import Stage
from vla.adapters.low_rank import LowRankLinear, adapt, updated
from vla.adapters.targets import every_linear
from vla.model import VLA

KEYS = "pool.keys"


def equip(vla: VLA, config: LifelongConfig) -> None:
    """Give the network the updates of ``lora`` or ``codyra``, drawn from torch's random state."""
    if config.method == "lora":
        adapt(vla, every_linear(vla), rank=config.rank, alpha=2 * config.rank)
    elif config.method == "codyra":
        adapt(vla, every_linear(vla), rank=config.rank, alpha=config.rank, weighted=True)


def learning_alone(stage: Stage, vla: VLA, config: LifelongConfig) -> Stage:
    """``stage`` with what the method learns, of an equipped network."""
    if config.method == "full":
        return stage
    names = tuple(f"{layer}.{name}" for layer, each in updated(vla).items() for name in own_parameters(each))
    rates = {KEYS: config.key_rate} if config.method == "l2m" else {}
    return replace(stage, learns=names, rates=rates)


def own_parameters(layer: LowRankLinear) -> list[str]:
    """The names of a layer's parameters that are of its updates."""
    return [name for name, _ in layer.named_parameters() if name not in ("weight", "bias")]


def end_task(vla: VLA, config: LifelongConfig) -> None:
    """What the task has taught becomes a part of the network, and the next task's updates are drawn."""
    if vla.pool is not None:
        vla.pool.end_task()
    elif config.method != "full":
        for layer in updated(vla).values():
            layer.merge()
            layer.start_anew()


def threshold(step: int, steps: int, shrink: float) -> float:
    """κ after 0-based ``step`` of a task's ``steps``: 0 in the first half, then rising in proportion; all κ of a task
    add up to ``shrink``.

    CoDyRA's code rises to 0.005 at the last of 500 steps, which adds up to 0.6; a sum serves tasks of any length.
    """
    half = steps // 2
    rises = steps - half
    return shrink * max(0, step + 1 - half) / (rises * (rises + 1) / 2)


def soft_threshold(weights: Float[Tensor, "*n"], by: float) -> Float[Tensor, "*n"]:
    """sign(w) · max(|w| − κ, 0): the proximal step of κ · ‖w‖₁."""
    return weights.sign() * (weights.abs() - by).clamp(min=0)


@contextmanager
def plain(vla: VLA) -> Iterator[None]:
    """Within the block a network with updates to be merged is one without: its linear layers have them in their
    weights. Afterwards it is as before, bit by bit.
    """
    layers = {} if vla.pool is not None else updated(vla)
    weights = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            with torch.no_grad():
                layer.weight += layer.change()
            _put(vla, name, _bare(layer))
        yield
    finally:
        for name, layer in layers.items():
            with torch.no_grad():
                layer.weight.copy_(weights[name])
            _put(vla, name, layer)


def _bare(layer: LowRankLinear) -> nn.Linear:
    """A linear layer of the same weight and bias."""
    bare = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
    bare.weight, bare.bias = layer.weight, layer.bias
    return bare.train(layer.training)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)

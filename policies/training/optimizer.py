"""The optimiser, its learning-rate schedule and the running average of the weights."""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from policies.training.schedule import Pace, Span
from policies.training.sharding import is_shared_out, overwrite, own_part


class OptimizerSettings(Protocol):
    """What a run's config says about its optimiser: AdamW's own settings, and how low the rate falls from ``lr``."""

    @property
    def lr(self) -> float: ...
    @property
    def min_lr_ratio(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def betas(self) -> tuple[float, float]: ...


def together(name: str) -> None:
    """All parameters have one rate."""


def build_optimizer(
    model: nn.Module, config: OptimizerSettings, apart: Callable[[str], Hashable] = together
) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101) over the parameters that learn; norms, biases and embeddings do not decay.

    Parameters for whose names ``apart`` says different things lie in different groups. A group's ``name`` is that of
    its first parameter, and ``rate``, 1 at first, what multiplies its learning rate. The parameters have one order
    whatever ``apart`` says: neighbours by name share a group, and a checkpoint's moments are numbered by it.
    """
    decayed, plain = [], []
    for name, parameter in sorted(learnable(model).items()):
        (decayed if _decays(model, name, parameter) else plain).append((name, parameter))
    groups: list[dict[str, Any]] = []
    for named, decay in ((decayed, config.weight_decay), (plain, 0.0)):
        for _, neighbours in groupby(named, key=lambda pair: (apart(pair[0]), is_shared_out(pair[1]))):
            names, parameters = zip(*neighbours, strict=True)
            groups.append({"params": list(parameters), "weight_decay": decay, "name": names[0], "rate": 1.0})
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def learnable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters with a gradient, by name; a shared one appears once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _decays(model: nn.Module, name: str, parameter: Tensor) -> bool:
    """Only weights that multiply activations decay: matrices and kernels outside of embedding tables."""
    owner = model.get_submodule(name.rpartition(".")[0])
    return name.endswith("weight") and parameter.ndim >= 2 and not isinstance(owner, nn.Embedding)


def learning_rate(step: int, span: Span[Pace], config: OptimizerSettings) -> float:
    """The rate of optimiser step ``step`` (0-based), which lies in ``span``: its stage's warm-up times half a cosine.

    The cosine (arXiv 1608.03983, eq. 5) falls from ``lr`` after the leg's first warm-up to ``lr · min_lr_ratio`` at the
    leg's last step, over all its stages; each stage warms up linearly on top of it. A leg after the first one is the
    paper's warm restart.
    """
    warmup = min(1.0, (step - span.first + 1) / max(1, span.warmup_steps))
    progress = min(1.0, max(0, step - span.falls_from) / max(1, span.leg_end - 1 - span.falls_from))
    ratio = config.min_lr_ratio + (1 - config.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))
    return config.lr * span.stage.rate * warmup * ratio


class WeightAverage:
    """Exponential moving average of a model's weights that learn, kept in float32.

    After 0-based step s: average ← d·average + (1 − d)·weight with d = min(decay, (1 + s) / (10 + s)), so that
    the initial weights are soon forgotten. A stage that freezes some of them changes nothing here. Steps count from
    ``first`` on, where the average starts anew.
    """

    first: int = 0

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._weights = learnable(model)
        self.values = {name: p.detach().float().clone() for name, p in self._weights.items()}

    def decay_at(self, step: int) -> float:
        since = step - self.first
        return min(self.decay, (1 + since) / (10 + since))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimiser step ``step``."""
        current = [own_part(self._weights[name]).float() for name in self.values]
        torch._foreach_lerp_([own_part(value) for value in self.values.values()], current, 1 - self.decay_at(step))

    def adopt(self) -> None:
        """Make the averages the model's weights."""
        _overwrite(self._weights, self.values)

    def start_anew(self) -> None:
        """Take the weights as they are for the averages."""
        _overwrite(self.values, {name: weight.detach() for name, weight in self._weights.items()})

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model holds the averages; afterwards its own weights again, bit by bit."""
        own = {name: weight.detach().clone() for name, weight in self._weights.items()}
        _overwrite(self._weights, self.values)
        try:
            yield
        finally:
            _overwrite(self._weights, own)


def _overwrite(weights: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        overwrite(weights[name], value)

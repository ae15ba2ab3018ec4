"""What a run teaches: a network, its optimiser and its weight average, step by step."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from policies.training.group import Group
from policies.training.optimizer import (
    OptimizerSettings,
    WeightAverage,
    build_optimizer,
    learnable,
    learning_rate,
    together,
)
from policies.training.schedule import Pace, Span
from policies.training.sharding import clip_gradient, share_out
from vla.objectives import Term


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient left the numbers; the last checkpoint is untouched."""


class RunSettings(OptimizerSettings, Protocol):
    """What a run's config says whatever is learned in it."""

    @property
    def steps(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def grad_clip(self) -> float: ...
    @property
    def ema_decay(self) -> float: ...
    @property
    def device(self) -> str: ...
    @property
    def processes(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def log_every(self) -> int: ...
    @property
    def save_every(self) -> int: ...
    @property
    def keep_last(self) -> int: ...


FREE_TO_CHANGE = frozenset({"log_every", "save_every", "keep_last", "device", "processes", "threads"})
"""Settings that a resumed run may set anew, for they change what is learned by rounding at most."""


C = TypeVar("C", bound=RunSettings)


class Learner(ABC, Generic[C]):
    """Learns step by step; every step is a function of the settings, the weights so far and the step's number.

    A subclass calls :meth:`take_up` with its network when that has its first weights. ``legs`` are the steps at which
    the run's legs end (see :func:`policies.training.schedule.lay_out`), by default one leg of ``config.steps``.
    In a ``group`` of processes each one steps with its part of the batch, and all have the same weights, unless they
    are ``shared_out`` among them, ``layers_apart`` one by one.
    ``product`` names what comes of it, which is the folder in a checkpoint that :meth:`save` fills.
    """

    product: ClassVar[str]
    model: nn.Module
    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    average: WeightAverage
    shared_out: bool = False
    layers_apart: Sequence[nn.Module] = ()

    def __init__(self, config: C, legs: Sequence[int]) -> None:
        self.config = config
        self.group = Group.here()
        self.device = self.group.device(config.device)
        self.legs = tuple(legs) or (config.steps,)

    def take_up(self, model: nn.Module, apart: Callable[[str], Hashable] = together) -> None:
        """Make the optimiser and the weight average of those parameters of ``model`` that have a gradient.

        If the network is to be ``shared_out``, it is from now on. ``apart``: see
        :func:`policies.training.optimizer.build_optimizer`.
        """
        self.model = model
        if self.shared_out:
            self.group.agree("the first weights", learnable(model).values())
            share_out(model, self.layers_apart, self.group.size, self.device)
        self.parameters = learnable(model)
        self.optimizer = build_optimizer(model, self.config, apart)
        self.average = WeightAverage(model, self.config.ema_decay)

    @abstractmethod
    def step(self, step: int) -> dict[str, float]:
        """One optimiser step (0-based); returns what there is to report of it, ``loss`` among it."""

    def examine(self, done: int) -> dict[str, float]:
        """How well the averaged weights do after ``done`` steps, if that is to be found out now; it changes nothing of
        what later steps learn.
        """
        return {}

    def carries(self, done: int) -> bool:
        """Whether :meth:`carried` is also asked for after ``done`` steps where no checkpoint is due, since that step
        may turn out to be the best, which is kept; every process says the same. False by default.
        """
        return False

    @property
    def best_step(self) -> int | None:
        """After how many steps the averaged weights did best in an evaluation, if there was one."""
        return None

    @abstractmethod
    def save(self, directory: Path) -> None:
        """Write the product, with averaged weights, into a folder that is there and empty."""

    def saving(self) -> Callable[[Path], None]:
        """What :meth:`save` is done by in the leading process; if the network is shared out, all are asked."""
        return self.save

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What decides the numbers of a run beside its legs, JSON-ready; a resumed run must have the same."""

    @abstractmethod
    def memory(self) -> dict[str, Any]:
        """What else than weights and optimiser a resumed run needs, JSON-ready."""

    @abstractmethod
    def recall(self, memory: Mapping[str, Any]) -> None:
        """Take over what :meth:`memory` gave; it may hold more."""

    def carried(self) -> dict[str, Tensor]:
        """Further tensors that a resumed run needs, of all processes together; every process is asked, at the same
        step. None by default.
        """
        return {}

    def take_back(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`carried` gave."""

    def timings(self) -> dict[str, float]:
        """Times and rates of the last step, which no resumed run repeats."""
        return {}

    def note(self, means: Mapping[str, float]) -> str:
        """What the progress bar says of the last report."""
        return f"loss {means['loss']:.4f}"

    def clip(self) -> Tensor:
        """Clip the gradient; returns its norm before."""
        return clip_gradient(self.parameters.values(), self.config.grad_clip)

    def over_all(self, terms: Mapping[str, Term]) -> dict[str, Term]:
        """``terms`` with the counts of all processes, so that their means over processes add up to the whole's."""
        if self.group.size == 1:
            return dict(terms)
        counts = self.group.total(torch.stack([term.count for term in terms.values()]))
        return {name: Term(term.sum, count) for (name, term), count in zip(terms.items(), counts, strict=True)}

    def descend(self, step: int, span: Span[Pace], numbers: Mapping[str, Tensor]) -> dict[str, float]:
        """Clip the gradient that has been computed, and go one step along it.

        Gradient and ``numbers`` are this process's shares, which are added up over all. Returns ``numbers``, the
        gradient's norm before clipping and the learning rate. ``NonFiniteLossError`` where one of them is no number;
        nothing is updated then.
        """
        config = self.config
        numbers = self.group.add_up(self.parameters.values(), numbers)
        found = {**numbers, "grad_norm": self.clip()}
        values = dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True))
        self._check_finite(values, step)

        rate = learning_rate(step, span, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.optimizer.step()
        self.average.update(step)
        return {**values, "lr": rate}

    def _check_finite(self, values: Mapping[str, float], step: int) -> None:
        bad = {name: value for name, value in values.items() if not math.isfinite(value)}
        if bad:
            config = self.config
            raise NonFiniteLossError(
                f"step {step + 1} gave {bad}: nothing was updated and the last checkpoint is kept; "
                f"try a lower lr (now {config.lr}) or grad_clip (now {config.grad_clip})"
            )

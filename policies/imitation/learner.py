"""One optimiser step of imitation: network, optimiser, weight average and data."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from policies.data.windows import WindowConfig
from policies.device import resolve_device
from policies.imitation.config import TrainConfig
from policies.imitation.demonstrations import Demonstrations
from policies.imitation.freezing import check_parts, set_learning
from policies.imitation.inputs import TrainingInputs
from policies.imitation.optimizer import WeightAverage, build_optimizer, learnable, learning_rate
from policies.imitation.seeding import Draw, seed_everything
from policies.imitation.stages import Span, lay_out, span_at, stages_for
from policies.processors import Normalization
from policies.vla_policy import VLAPolicy, check_fit
from vla.config import VLAConfig
from vla.observation import rows

log = logging.getLogger(__name__)


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient left the numbers; the last checkpoint is untouched."""


class Learner:
    """Learns step by step; every step is a function of the settings, the weights so far and the step's number.

    ``legs`` are the steps at which the run's legs end (see :func:`policies.imitation.stages.lay_out`), by default one
    leg of ``config.steps``. Weights are fresh, or those of the policy ``start``, whose normalisation then stays, since
    its weights depend on it. ``ValueError`` where device, network, data and ``start`` do not fit together.
    """

    def __init__(
        self,
        config: TrainConfig,
        vla_config: VLAConfig,
        datasets: Sequence[Path],
        *,
        legs: Sequence[int] = (),
        start: VLAPolicy | None = None,
    ) -> None:
        self.config = config
        self.device = resolve_device(config.device)
        self.legs = tuple(legs) or (config.steps,)
        self.spans = lay_out(stages_for(config.stages, locates=bool(vla_config.waypoint_dims)), self.legs)
        windows = WindowConfig(horizon=vla_config.horizon, cameras=vla_config.cameras, cache=config.pictures)
        self.demonstrations = Demonstrations(datasets, windows, failures=config.failures)
        seed_everything(config.seed, 0, Draw.INITIAL_WEIGHTS)
        self.vla = vla_config.build().to(self.device).train()
        check_fit(self.vla, self.demonstrations.embodiment)
        check_parts(self.vla, [span.stage for span in self.spans])
        if start is None:
            self.normalization = fitted_normalization(self.demonstrations, config)
        else:
            self.normalization = start.normalization
            self.vla.load_state_dict(start.vla.state_dict())
        self.parameters = learnable(self.vla)
        self.optimizer = build_optimizer(self.vla, config)
        self.average = WeightAverage(self.vla, config.ema_decay)
        self.inputs = TrainingInputs(self.vla, self.demonstrations.instructions, config.augment, config.seed)
        self._entered: Span | None = None
        self._check_stages()

    def step(self, step: int) -> dict[str, float]:
        """One optimiser step (0-based); returns loss, gradient norm before clipping, rate and the losses' numbers.

        A batch in pieces gives the gradient of the whole: each piece counts by its valid actions, which
        every loss is the mean over.
        """
        config, span = self.config, span_at(self.spans, step)
        self._enter(span)
        batch = self.demonstrations.batch(config.seed, step, config.batch_size, frames=span.stage.frames)
        observation, target = self.inputs(batch, step, self.normalization)
        seed_everything(config.seed, step, Draw.DROPOUT)
        self.optimizer.zero_grad(set_to_none=True)
        totals: dict[str, Tensor] = {}
        for piece in torch.arange(config.batch_size, device=self.device).chunk(config.accumulate):
            part = rows(target, piece)
            share = part.valid.sum() / target.valid.sum()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                loss, numbers = self.vla.loss(rows(observation, piece), part, span.stage.weights)
            (loss * share).backward()
            for name, value in {"loss": loss.detach(), **numbers}.items():
                totals[name] = totals.get(name, torch.zeros((), device=self.device)) + share * value
        totals["grad_norm"] = torch.nn.utils.clip_grad_norm_(self.parameters.values(), config.grad_clip)
        values = dict(zip(totals, torch.stack(list(totals.values())).tolist(), strict=True))
        self._check_finite(values, step)

        rate = learning_rate(step, span, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.average.update(step)
        return {**values, "lr": rate}

    def save_policy(self, directory: Path) -> None:
        """Write the policy with averaged weights, ready to act."""
        with self.average.applied():
            VLAPolicy(self.vla, self.normalization, self.demonstrations.embodiment).save(directory)
        self._entered = None  # the policy has put the network in evaluation mode

    def _enter(self, span: Span) -> None:
        if span is not self._entered:
            set_learning(self.vla, self.parameters, span.stage.learns)
            self._entered = span

    def _check_stages(self) -> None:
        """``ValueError`` for a stage whose losses do not reach the parts that are to learn in it."""
        for span in self.spans:
            stage = span.stage
            if not stage.learns:
                continue
            set_learning(self.vla, self.parameters, stage.learns)
            batch = self.demonstrations.batch(self.config.seed, span.first, 1, frames=stage.frames)
            loss, _ = self.vla.eval().loss(*self.inputs(batch, span.first, self.normalization), stage.weights)
            if not loss.requires_grad:
                raise ValueError(f"a stage is to learn {list(stage.learns)}, which its losses do not reach: {stage}")

    def _check_finite(self, values: dict[str, float], step: int) -> None:
        bad = {name: value for name, value in values.items() if not torch.isfinite(torch.tensor(value))}
        if bad:
            raise NonFiniteLossError(
                f"step {step + 1} gave {bad}: nothing was updated and the last checkpoint is kept; "
                f"try a lower lr (now {self.config.lr}) or grad_clip (now {self.config.grad_clip})"
            )


def fitted_normalization(demonstrations: Demonstrations, config: TrainConfig) -> Normalization:
    """That of the data, with a warning that names what hardly moves in them."""
    normalization = Normalization.from_statistics(
        demonstrations.statistics(),
        demonstrations.embodiment,
        state=config.state_normalization,
        action=config.action_normalization,
    )
    if still := normalization.nearly_constant(demonstrations.embodiment):
        log.warning("hardly moves in the data, so it is scaled by its specified range: %s", ", ".join(still))
    return normalization

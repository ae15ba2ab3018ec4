"""One optimiser step of imitation: network, optimiser, weight average and data."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from policies.data.windows import WindowConfig
from policies.imitation.config import FREE_TO_CHANGE, TrainConfig
from policies.imitation.demonstrations import Demonstrations
from policies.imitation.freezing import check_parts, set_learning
from policies.imitation.inputs import TrainingInputs
from policies.imitation.stages import Stage, stages_for
from policies.imitation.starting import Start
from policies.processors import Normalization
from policies.training.checkpoint import POLICY
from policies.training.learner import Learner
from policies.training.schedule import Span, lay_out, span_at
from policies.training.seeding import Draw, seed_everything
from policies.vla_policy import VLAPolicy, check_fit
from vla.adopting import Adoption, adopt
from vla.base import Base
from vla.config import VLAConfig
from vla.model import VLA
from vla.observation import rows
from vla.strict_json import strict_json

log = logging.getLogger(__name__)


class ImitationLearner(Learner[TrainConfig]):
    """Learns from demonstrations.

    Weights are those of the policy ``start``, whose normalisation then stays, since its weights depend on it; or the
    backbone's are those of the base ``start``, as far as they fit (``adoption``); without ``start`` they are those that
    the backbone's config names. ``ValueError`` where device, network, data and ``start`` do not fit together.
    """

    product = POLICY

    def __init__(
        self,
        config: TrainConfig,
        vla_config: VLAConfig,
        datasets: Sequence[Path],
        *,
        legs: Sequence[int] = (),
        start: VLAPolicy | Base | None = None,
    ) -> None:
        super().__init__(config, legs)
        self.spans = lay_out(stages_for(config.stages, locates=bool(vla_config.waypoint_dims)), self.legs)
        windows = WindowConfig(horizon=vla_config.horizon, cameras=vla_config.cameras, cache=config.pictures)
        self.demonstrations = Demonstrations(datasets, windows, failures=config.failures)
        seed_everything(config.seed, 0, Draw.INITIAL_WEIGHTS)
        self.vla = VLA(vla_config).to(self.device).train()
        check_fit(self.vla, self.demonstrations.embodiment)
        check_parts(self.vla, [span.stage for span in self.spans])
        self.base: str | None = None
        self.adoption: Adoption | None = None
        given = Start().load(vla_config, self.demonstrations.embodiment) if start is None else start
        self.normalization = self._start(given)
        self.take_up(self.vla)
        self.inputs = TrainingInputs(self.vla, self.demonstrations.instructions, config.augment, config.seed)
        self._entered: Span[Stage] | None = None
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
        return self.descend(step, span, totals)

    def save(self, directory: Path) -> None:
        """Write the policy with averaged weights, ready to act."""
        with self.average.applied():
            VLAPolicy(self.vla, self.normalization, self.demonstrations.embodiment, base=self.base).save(directory)
        self._entered = None  # the policy has put the network in evaluation mode

    def settings(self) -> dict[str, Any]:
        left_out = FREE_TO_CHANGE | {"steps"}
        train = {name: value for name, value in asdict(self.config).items() if name not in left_out}
        data = [
            {"episodes": len(dataset), "frames": dataset.num_frames, "fingerprint": dataset.fingerprint}
            for dataset in self.demonstrations.datasets
        ]
        return json.loads(strict_json({"train": train, "vla": self.vla.config.to_dict(), "data": data}))

    def memory(self) -> dict[str, Any]:
        return {"normalization": self.normalization.to_dict(), "base": self.base}

    def recall(self, memory: Mapping[str, Any]) -> None:
        self.normalization = Normalization.from_dict(memory["normalization"])
        self.base = memory.get("base")

    def _start(self, start: VLAPolicy | Base | None) -> Normalization:
        """Put the first weights into the network; the normalisation that they go with."""
        if isinstance(start, VLAPolicy):
            self.base = start.base
            self.vla.load_state_dict(start.vla.state_dict())
            return start.normalization
        normalization = fitted_normalization(self.demonstrations, self.config)
        if start is not None:
            names = [dimension.name for dimension in self.demonstrations.embodiment.state]
            self.base = start.sha256
            self.adoption = adopt(self.vla, start, names, normalization.state.affine())
        return normalization

    def _enter(self, span: Span[Stage]) -> None:
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

"""One optimiser step of imitation: network, optimiser, weight average and data."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from policies.data.dataset import DemonstrationDataset
from policies.data.windows import WindowBatch, WindowConfig
from policies.imitation.config import FREE_TO_CHANGE, TrainConfig
from policies.imitation.demonstrations import Demonstrations
from policies.imitation.evaluating import Best, Evaluator, report_of
from policies.imitation.further import objectives_in
from policies.imitation.inputs import TrainingInputs
from policies.imitation.parts import check_parts, set_learning
from policies.imitation.stages import Stage, stages_for
from policies.imitation.starting import Start
from policies.imitation.teaching import Teaching
from policies.imitation.validation import Validation, learned_from
from policies.keyframe_policy import policy_kind
from policies.processors import Normalization
from policies.training.checkpoint import POLICY
from policies.training.learner import Learner
from policies.training.schedule import Span, lay_out, span_at
from policies.training.seeding import Draw, random_state_kept, seed_everything
from policies.training.sharding import put_together
from policies.vla_policy import VLAPolicy, check_fit
from vla.adopting import Adoption, adopt, extended, take_over
from vla.base import Base
from vla.config import VLAConfig
from vla.model import VLA
from vla.objectives.further import Taught
from vla.observation import ActionChunk, rows
from vla.strict_json import strict_json

log = logging.getLogger(__name__)

FITTED_CHUNKS = 20_000
"""How many chunks of the data at most a head is fitted to before the first step, if it measures anything."""


class ImitationLearner(Learner[TrainConfig]):
    """Learns from demonstrations.

    Weights are those of the policy ``start``, whose normalisation then stays, since its weights depend on it; or the
    backbone's are those of the base ``start``, as far as they fit (``adoption``); without ``start`` they are those that
    the backbone's config names. ``evaluator`` tries out what was learned so far; ``best`` is the best that came of it.
    ``ValueError`` where device, network, data and ``start`` do not fit together.
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
        evaluator: Evaluator | None = None,
    ) -> None:
        super().__init__(config, legs)
        self.part = self.group.part(config.batch_size)
        self.shared_out = config.shard and self.group.size > 1
        if config.shard and evaluator is not None:
            raise ValueError("a network that is shared out (train.shard) is not tried out while it learns: evaluate it")
        if self.shared_out and config.batch_size % (self.group.size * config.accumulate):
            raise ValueError(
                "processes that share a network out (train.shard) take as many pieces of a batch as one another: "
                f"expected a batch_size that {self.group.size} processes times accumulate {config.accumulate} divides, "
                f"got {config.batch_size}"
            )
        stages = stages_for(config.stages, locates=bool(vla_config.waypoint_dims))
        windows = WindowConfig(
            horizon=vla_config.horizon,
            cameras=vla_config.cameras,
            depth=vla_config.needs_depth,
            geometry=vla_config.needs_cameras,
            aims=vla_config.aims,
            history=vla_config.history,
            cache=config.pictures,
        )
        windows = replace(windows, memory_budget_bytes=windows.memory_budget_bytes // self.group.local_size)
        with self.group.one_first() if config.pictures == "decoded" else nullcontext():
            self.demonstrations = learned_from(datasets, config, windows)
        seed_everything(config.seed, 0, Draw.INITIAL_WEIGHTS)
        self.vla = self._network(vla_config).to(self.device).train()
        self.spans = self._lay_out(stages)
        check_fit(self.vla, self.demonstrations.embodiment)
        teaching = self._find_teachers()
        check_parts(self.vla, [span.stage for span in self.spans])
        self.base: str | None = None
        self.adoption: Adoption | None = None
        given = Start().load(vla_config, self.demonstrations.embodiment) if start is None else start
        self.normalization = self._start(given, teaching)
        self.layers_apart = self.vla.backbone.layers_apart
        self.take_up(self.vla, self._rates_of)
        texts, robot = self.demonstrations.instructions, self.demonstrations.embodiment
        self.inputs = TrainingInputs(self.vla, texts, config.augment, config.seed, robot)
        self._taught = None if teaching is None else teaching.about(self.demonstrations)
        self._teaching = None if teaching is None else teaching.settings
        self.validation = None
        if config.validation_share:
            self.validation = Validation(datasets, self.vla, config, windows, teaching)
        self.best: Best | None = None
        self._evaluator = evaluator
        self._entered: Span[Stage] | None = None
        self._check_stages()

    def step(self, step: int) -> dict[str, float]:
        """One optimiser step (0-based); returns loss, gradient norm before clipping, rate and the losses' numbers.

        A batch in pieces, of one process or of several, gives the gradient of the whole: each piece counts by its
        valid actions, which every loss is the mean over. Only what compares samples with one another, the contrast of
        ``layers`` and the typical error of ``surprise``, compares those of a piece.
        """
        config, span = self.config, span_at(self.spans, step)
        self._enter(span)
        frames = self._draw(step, span.stage)[self.part.rows]
        batch = self.demonstrations.sample(frames)
        observation, target = self.inputs(batch, step, self.normalization, self.part)
        taught = self._lessons(frames, batch, span.stage)
        seed_everything(config.seed, step, Draw.DROPOUT, self.group.rank)
        self.optimizer.zero_grad(set_to_none=True)
        totals: dict[str, Tensor] = {}
        valid = self.group.total(target.valid.sum())
        for piece in torch.arange(len(self.part), device=self.device).chunk(config.accumulate):
            of_piece = rows(target, piece)
            share = of_piece.valid.sum() / valid
            with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                about = {name: value[piece] for name, value in taught.items()}
                loss, numbers = self.vla.loss(rows(observation, piece), of_piece, span.stage.weights, about)
            (loss * share).backward()
            for name, value in {"loss": loss.detach(), **numbers}.items():
                totals[name] = totals.get(name, torch.zeros((), device=self.device)) + share * value
        return self.descend(step, span, totals)

    def examine(self, done: int) -> dict[str, float]:
        """Validation losses, with the weights that the run's last stage gives them, and success in simulation."""
        found: dict[str, float] = {}
        with random_state_kept(self.device):
            if self.validation is not None and self._is_due(self.config.validate_every, done):
                weights = self.spans[-1].stage.weights
                with self._averaged():
                    found |= self.validation.losses(self.vla, self.normalization, weights)
            if self._evaluator is not None and self._is_due(self._evaluator.every, done):
                with self._averaged() as policy:
                    outcomes = self._evaluator.outcomes(policy)
                found |= report_of(outcomes)
                self.best = Best.of(done, outcomes, self._evaluator.about).unless(self.best)
        return found

    @property
    def best_step(self) -> int | None:
        return None if self.best is None else self.best.step

    def save(self, directory: Path) -> None:
        """Write the policy with averaged weights, ready to act."""
        with self._averaged() as policy:
            policy.save(directory)

    def saving(self) -> Callable[[Path], None]:
        if not self.shared_out:
            return self.save
        with self.average.applied():
            kept = {name: put_together(weight).cpu() for name, weight in self.vla.kept().items()}
        return lambda directory: self._policy_of(self._with_weights(kept)).save(directory)

    def settings(self) -> dict[str, Any]:
        left_out = FREE_TO_CHANGE | {"steps"}
        train = {name: value for name, value in asdict(self.config).items() if name not in left_out}
        del train["teachers"]
        if not train["task_weights"]:  # as it was written before there were any
            del train["task_weights"]
        for stage in train["stages"]:
            if not stage["rates"]:  # as it was written before there were any
                del stage["rates"]
            if not stage["weights"]["objectives"]:
                del stage["weights"]["objectives"]
        settings = {"train": train, "vla": self.vla.config.to_dict(), "data": _about(self.demonstrations.datasets)}
        if self.validation is None:  # as it was written before there was any
            del train["validation_share"]
        else:
            settings["validation"] = _about(self.validation.datasets)
        if self._teaching is not None:
            settings["teaching"] = self._teaching
        return json.loads(strict_json(settings))

    def memory(self) -> dict[str, Any]:
        best = None if self.best is None else asdict(self.best)
        return {"normalization": self.normalization.to_dict(), "base": self.base, "best": best}

    def recall(self, memory: Mapping[str, Any]) -> None:
        self.normalization = Normalization.from_dict(memory["normalization"])
        self.base = memory.get("base")
        best = memory.get("best")
        self.best = None if best is None else Best(**best)

    def drawn_and_frozen(self) -> set[str]:
        """Parts that never learn and have learned nothing before: their first weights are drawn, and stay."""
        learned = () if self.adoption is None else self.adoption.taken
        names = [name for name, _ in self.vla.named_parameters()]
        learning = {_part(name) for name in names if any(self._rates_of(name))}
        return {_part(name) for name in names} - learning - set(learned) - self.vla.backbone.pretrained

    def _network(self, vla_config: VLAConfig) -> VLA:
        """What learns, with weights from torch's random state."""
        return VLA(vla_config)

    def _lay_out(self, stages: Sequence[Stage]) -> tuple[Span[Stage], ...]:
        """Which stage each step is of."""
        return lay_out(stages, self.legs)

    def _measured(self) -> Demonstrations:
        """Those whose numbers say how they are scaled, and what the head measures."""
        return self.demonstrations

    def _draw(self, step: int, stage: Stage) -> Int[np.ndarray, " b"]:
        """The frames of a step's whole batch."""
        return self.demonstrations.draw(self.config.seed, step, self.config.batch_size, frames=stage.frames)

    def _is_due(self, every: int, done: int) -> bool:
        return done % every == 0 or done == self.legs[-1]

    @contextmanager
    def _averaged(self) -> Iterator[VLAPolicy]:
        """Within the block the network has averaged weights and is in evaluation mode, ready to act."""
        with self.average.applied():
            yield self._policy_of(self.vla)
        self._entered = None  # the next step puts it into the stage's mode again

    def _policy_of(self, vla: VLA) -> VLAPolicy:
        kind = policy_kind(vla.config)
        return kind(vla, self.normalization, self.demonstrations.embodiment, base=self.base)

    def _with_weights(self, kept: Mapping[str, Tensor]) -> VLA:
        """A network of this process alone, on the host, with these weights; what it does not keep is read again."""
        with random_state_kept(self.device):
            whole = VLA(self.vla.config)
        whole.load_state_dict(kept, strict=False)
        return whole

    def _start(self, start: VLAPolicy | Base | None, teaching: Teaching | None) -> Normalization:
        """Put the first weights into the network, and what its head measures; the normalisation that they go with.

        A policy whose hidden states are to be matched gives its normalisation and, where it fits, its last layer.
        """
        if isinstance(start, VLAPolicy):
            self.base = start.base
            take_over(self.vla, start.vla.state_dict())
            if new := extended(start.vla.config, self.vla.config)[1]:
                log.warning("new to the network that this starts from: %s", ", ".join(new))
            return start.normalization
        measured = self._measured()
        normalization = None if teaching is None else teaching.hand_over(self.vla)
        if normalization is None:
            normalization = fitted_normalization(measured, self.config)
        actions, valid = measured.chunks(FITTED_CHUNKS)
        self.vla.head.fit(ActionChunk(actions=normalization.action.normalize(actions), valid=valid))
        if start is not None:
            names = [dimension.name for dimension in self.demonstrations.embodiment.state]
            self.base = start.sha256
            self.adoption = adopt(self.vla, start, names, normalization.state.affine())
        return normalization

    def _find_teachers(self) -> Teaching | None:
        """Those of the objectives that the stages weigh, which the network is given."""
        if not (names := objectives_in(span.stage for span in self.spans)):
            return None
        teaching = Teaching(self.config.teachers, names, self.vla, self.device)
        teaching.check(self.demonstrations.embodiment, self.demonstrations.instructions)
        self.vla.objectives.update(teaching.objectives)
        self.vla.to(self.device)
        return teaching

    def _lessons(self, frames: Int[np.ndarray, " b"], batch: WindowBatch, stage: Stage) -> Taught:
        """What is taught about samples of the demonstrations, of which the stage counts something."""
        if self._taught is None:
            return {}
        return self._taught.of(frames, batch, self.normalization, stage.weights.further)

    def _rates_of(self, name: str) -> tuple[float, ...]:
        """What multiplies a parameter's learning rate, stage by stage."""
        return tuple(span.stage.rate_of(name) for span in self.spans)

    def _enter(self, span: Span[Stage]) -> None:
        if span is not self._entered:
            set_learning(self.vla, self.parameters, span.stage)
            for group in self.optimizer.param_groups:
                group["rate"] = span.stage.rate_of(group["name"])
            self._entered = span

    def _check_stages(self) -> None:
        """``ValueError`` for a stage whose losses do not reach the parts that are to learn in it."""
        for span in self.spans:
            stage = span.stage
            if not stage.parts:
                continue
            set_learning(self.vla, self.parameters, stage)
            frames = self.demonstrations.draw(self.config.seed, span.first, 1, frames=stage.frames)
            batch = self.demonstrations.sample(frames)
            given = self.inputs(batch, span.first, self.normalization)
            loss, _ = self.vla.eval().loss(*given, stage.weights, self._lessons(frames, batch, stage))
            if not loss.requires_grad:
                learns = f"is to learn {list(stage.learns)}" if stage.learns else f"has the rates {stage.rates}"
                raise ValueError(f"a stage {learns}, and its losses do not reach what learns there: {stage}")


def _about(datasets: Sequence[DemonstrationDataset]) -> list[dict[str, Any]]:
    return [
        {"episodes": len(dataset), "frames": dataset.num_frames, "fingerprint": dataset.fingerprint}
        for dataset in datasets
    ]


def _part(name: str) -> str:
    """The head, or the part of the backbone that a parameter lies in."""
    return name.removeprefix("backbone.").partition(".")[0]


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

"""One optimiser step of pre-training."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from envs.specs import Dimension, EmbodimentSpec, Grounding
from policies.data.differences import differences
from policies.data.statistics import FieldStatistics
from policies.network_input import waypoint_dims
from policies.pretraining.config import HELD_OUT, KNOWN_WORDS, PretrainConfig
from policies.pretraining.evaluation import evaluate
from policies.pretraining.inputs import MaterialInputs, by_tables
from policies.pretraining.lessons import Taught
from policies.pretraining.packing import unpacked
from policies.pretraining.scenes import Request, Scenes, Split
from policies.processors import STATE_BOUND, NormalizationMode, Normalizer, scale_floor
from policies.training.augment import Disturbance
from policies.training.checkpoint import BACKBONE
from policies.training.learner import FREE_TO_CHANGE, Learner
from policies.training.schedule import Pace, lay_out, span_at
from policies.training.seeding import Draw, generator, seed_everything
from vla.adopting import rescaled
from vla.backbone import Backbone
from vla.base import Base, BaseConfig, save_base
from vla.config import BackboneConfig
from vla.objectives.material import Lessons, Material
from vla.objectives.objective import ObjectiveWeights
from vla.objectives.saving import save_parts
from vla.objectives.terms import Term
from vla.objectives.together import Objectives, all_objectives
from vla.strict_json import strict_json


class PretrainLearner(Learner[PretrainConfig]):
    """Learns a backbone for the robot of ``scenes``, whose cameras it has all; ``taught`` is what a teacher says.

    It begins with the weights of ``start``, else with fresh ones; ``further`` is the same network after it has learned
    further, whose features are to be kept.
    ``held_out`` holds the last evaluation's numbers, in held-out words and in known ones. ``ValueError`` where device,
    network, robot and scenes do not fit together: one whose state has no tool position in the world has no waypoint to
    say a place with.
    """

    product = BACKBONE

    def __init__(
        self,
        config: PretrainConfig,
        backbone: BackboneConfig,
        scenes: Scenes,
        taught: Taught | None = None,
        *,
        start: Base | None = None,
        further: Base | None = None,
        legs: Sequence[int] = (),
    ) -> None:
        super().__init__(config, legs)
        self.part = self.group.part(config.tables)
        self.spans = lay_out((Pace(warmup_steps=config.warmup_steps),), self.legs)
        self._scenes, self._taught = scenes, taught
        first = scenes.batch(self._request("train", config.first_seed, config.statistics_tables))
        self._fingerprint = hashlib.sha256("\n".join(texts_of(first)).encode()).hexdigest()
        normalizer = state_normalizer(first, scenes.embodiment.state)
        seed_everything(config.seed, 0, Draw.INITIAL_WEIGHTS)
        config_of_base = base_config(backbone, scenes.embodiment, normalizer)
        for base in (start, further):
            if base is not None:
                check_same(base, config_of_base)
        known = None if further is None else further.build().to(self.device)
        self.objectives = objectives_of(config_of_base, config.weights, taught, known).to(self.device)
        if start is not None:
            begin_with(self.objectives.backbone, start, config_of_base)
        self._further = None if further is None else further.sha256
        self.base_config = replace(config_of_base, vocabulary=self.objectives.backbone.vocabulary)
        self.inputs = MaterialInputs(self.objectives.backbone, normalizer, self.objectives.needs, self.device)
        splits: tuple[Split, ...] = ("held_out", "train")
        seen_later, in_known_words = (scenes.batch(self._request(s, 0, config.held_out_tables)) for s in splits)
        lessons = (*taught.sentences, *taught.held_out) if taught else ()
        for texts in (texts_of(first), texts_of(seen_later), texts_of(in_known_words), lessons):
            self.objectives.backbone.check_texts(texts)
        self._unseen, self._known = (list(by_tables(each, config.tables)) for each in (seen_later, in_known_words))
        self.held_out: dict[str, float] = {}
        self._names: dict[str, None] = {}
        self._freeze_what_nothing_reaches()
        self.take_up(self.objectives)

    def step(self, step: int) -> dict[str, float]:
        """One optimiser step (0-based); returns losses, errors, gradient norm, rate, and held-out ones when due."""
        config, span = self.config, span_at(self.spans, step)
        last = self.legs[-1] - 1
        material = self._material(step, None if step >= last else step + 1)
        seed_everything(config.seed, step, Draw.DROPOUT, self.group.rank)
        self.objectives.train()
        self.optimizer.zero_grad(set_to_none=True)
        found = self.objectives(material)
        terms = self.over_all(self._with_those_of_others({**found.terms, **found.numbers}))
        loss = self.objectives.loss({name: terms[name] for name in found.terms})
        loss.backward()
        numbers = {name: term.mean.detach() for name, term in terms.items()}
        values = self.descend(step, span, {"loss": loss.detach(), **numbers})
        if (step + 1) % config.evaluate_every == 0 or step == last:
            with self.average.applied():
                self.held_out = self.group.from_lead(self._evaluate)
            values |= {HELD_OUT + name: value for name, value in self.held_out.items()}
        return values

    def save(self, directory: Path) -> None:
        """Write what was learned of the backbone and what objectives own, with averaged weights."""
        save_base(self.base_config, self._averaged("backbone."), directory)
        save_parts(self._averaged("parts."), directory)

    def settings(self) -> dict[str, Any]:
        left_out = FREE_TO_CHANGE | {"steps"}
        train = {name: value for name, value in asdict(self.config).items() if name not in left_out}
        if not train["weights"]["features"]:  # as it was written before there were any
            del train["weights"]["features"]
        made_of = {"scenes": self._fingerprint, "teacher": self._taught.fingerprint if self._taught else None}
        if self._further is not None:
            made_of["further"] = self._further
        return json.loads(strict_json({"train": train, "backbone": self.base_config.to_dict(), **made_of}))

    def memory(self) -> dict[str, Any]:
        return {"held_out": self.held_out}

    def recall(self, memory: Mapping[str, Any]) -> None:
        self.held_out = dict(memory["held_out"])

    def _averaged(self, prefix: str) -> dict[str, Tensor]:
        values = self.average.values.items()
        return {name.removeprefix(prefix): value for name, value in values if name.startswith(prefix)}

    def _material(self, step: int, next_step: int | None) -> Material:
        """What optimiser step ``step`` learns from; the scenes of ``next_step`` are asked for."""
        config = self.config
        then = None if next_step is None else self._of_step(next_step)
        material = self.inputs(self._scenes.batch(self._of_step(step), then))
        flat = material.images.flatten(0, 2)
        drawn = self.part.of_each(len(flat) // len(material.images))
        disturbance = Disturbance.draw(config.augment, drawn.whole, config.seed, step).of(drawn.rows)
        disturbed = disturbance.apply(flat)
        return replace(material, images=disturbed.reshape(material.images.shape), lessons=self._lessons(step))

    def _with_those_of_others(self, terms: dict[str, Term]) -> dict[str, Term]:
        """``terms`` and, where several processes learn, one of nothing for each that others may have found."""
        if self.group.size == 1:
            return terms
        return dict.fromkeys(self._names, Term.nothing(self.device)) | terms

    def _lessons(self, step: int) -> Lessons | None:
        """Those of a step: drawn with replacement."""
        if (taught := self._taught) is None:
            return None
        source = generator(self.config.seed, step, Draw.LESSONS)
        index = torch.randint(len(taught.sentences), (self.config.lessons,), generator=source)
        words = self.inputs.words([taught.sentences[i] for i in index.tolist()])
        return Lessons(words=words, embedding=taught.embedding[index].to(self.device))

    def _evaluate(self) -> dict[str, float]:
        held_out = evaluate(self.objectives, self.inputs, self._unseen, self._held_out_lessons())
        known = evaluate(self.objectives, self.inputs, self._known)
        del known["loss"]  # it lacks the teacher's
        return held_out | {KNOWN_WORDS + name: value for name, value in known.items()}

    def _held_out_lessons(self) -> Lessons | None:
        if (taught := self._taught) is None:
            return None
        return Lessons(words=self.inputs.words(taught.held_out), embedding=taught.held_out_embedding.to(self.device))

    def _freeze_what_nothing_reaches(self) -> None:
        """Take the gradient from all parameters that no loss reaches: they would neither learn nor be of use.

        ``ValueError`` where the held-out scenes lack what an objective is made of.
        """
        parameters, reached = list(self.objectives.parameters()), set[int]()
        lacking = set(self.objectives.needs)
        for scenes in self._unseen:
            material = replace(self.inputs(scenes), lessons=self._lessons(0))
            if lacking & material.holds:
                found = self.objectives(material)
                self._names |= dict.fromkeys([*found.terms, *found.numbers])
                loss = self.objectives.loss(found.terms)
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
                reached |= {i for i, gradient in enumerate(gradients) if gradient is not None}
                lacking -= material.holds
        if lacking:
            raise ValueError(
                f"expected {' and '.join(sorted(lacking))} of the held-out scenes, got none: "
                "give what is learned from them the weight 0, or take more held_out_tables"
            )
        for index, parameter in enumerate(parameters):
            parameter.requires_grad_(index in reached)

    def _of_step(self, step: int) -> Request:
        first_seed = self.config.first_seed + step * self.config.tables + self.part.first
        return self._request("train", first_seed, len(self.part))

    def _request(self, split: Split, first_seed: int, tables: int) -> Request:
        weights = self.config.weights
        return Request(
            split=split,
            first_seed=first_seed,
            tables=tables,
            sentences_per_table=self.config.sentences_per_table,
            questions_per_table=self.config.questions_per_table if weights.answer else 0,
            captions=bool(weights.caption or weights.matching),
        )


def texts_of(scenes: Grounding) -> tuple[str, ...]:
    """All that is said of scenes."""
    _, texts = unpacked(scenes)
    return tuple(text for each in texts.values() for text in each)


def state_normalizer(scenes: Grounding, dimensions: Sequence[Dimension]) -> Normalizer:
    """What the robot's state is scaled by, as in imitation: its spread over the scenes."""
    return Normalizer(
        mode=NormalizationMode.MEAN_STD,
        stats=FieldStatistics.of(scenes.state.numpy(force=True)),
        floor=tuple(scale_floor(dimension) for dimension in dimensions),
        bound=STATE_BOUND,
    )


def base_config(backbone: BackboneConfig, embodiment: EmbodimentSpec, state: Normalizer) -> BaseConfig:
    """What a backbone's weights mean that looks through all of a robot's cameras, its vocabulary apart.

    ``ValueError`` unless they have one size.
    """
    sizes = {(camera.height_px, camera.width_px) for camera in embodiment.cameras}
    if len(sizes) != 1:
        raise ValueError(f"expected cameras with pictures of one size, {embodiment.name} has {sorted(sizes)}")
    return BaseConfig(
        backbone=backbone,
        vocabulary="",
        cameras=embodiment.camera_names,
        image_size_px=sizes.pop(),
        state_names=tuple(dimension.name for dimension in embodiment.state),
        state=state.affine(),
        waypoint_dims=waypoint_dims(embodiment),
    )


def check_same(base: Base, config: BaseConfig) -> None:
    """``ValueError`` that names what differs unless ``base`` is of ``config``, its vocabulary and scale apart."""
    there, now = ({**each.to_dict(), "vocabulary": "", "state": {}} for each in (base.config, config))
    if differing := differences(there, now):
        raise ValueError(f"the backbone to begin with, or to keep to, is another one:\n{differing}")


def begin_with(backbone: Backbone, base: Base, config: BaseConfig) -> None:
    """Give ``backbone`` what ``base`` has learned, in the scale of the state that ``config`` has."""
    renewed = rescaled(base.weights, base.config.state, config.state, config.waypoint_dims)
    backbone.load_state_dict(base.build().state_dict() | renewed)


def objectives_of(
    config: BaseConfig, weights: ObjectiveWeights, taught: Taught | None, further: Backbone | None = None
) -> Objectives:
    """What is learned, over a fresh backbone."""
    chosen = list(config.waypoint_dims)
    offset, scale = (torch.tensor(column)[chosen] for column in (config.state.offset, config.state.scale))
    teacher_dim = 0 if taught is None else taught.embedding.shape[1]
    return all_objectives(
        config.build(), weights, offset_m=offset, scale_m=scale, teacher_dim=teacher_dim, further=further
    )

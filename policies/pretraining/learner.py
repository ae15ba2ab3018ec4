"""One optimiser step of learning to look."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from envs.specs import Dimension, EmbodimentSpec, Grounding
from policies.data.statistics import FieldStatistics
from policies.network_input import waypoint_dims
from policies.pretraining.config import PretrainConfig
from policies.pretraining.evaluation import evaluate
from policies.pretraining.inputs import LookInputs, by_tables, with_images
from policies.pretraining.scenes import Request, Scenes, Split
from policies.processors import STATE_BOUND, NormalizationMode, Normalizer, scale_floor
from policies.training.augment import Disturbance
from policies.training.checkpoint import BACKBONE
from policies.training.learner import FREE_TO_CHANGE, Learner
from policies.training.schedule import Pace, lay_out, span_at
from policies.training.seeding import Draw, seed_everything
from vla.base import BaseConfig, save_base
from vla.config import BackboneConfig
from vla.grounding import Looking, near
from vla.strict_json import strict_json

HELD_OUT = "held_out_"
"""What the names of numbers begin with that come of held-out scenes."""


class LookingLearner(Learner[PretrainConfig]):
    """Learns a backbone for the robot of ``scenes``, whose cameras it has all.

    ``held_out`` holds the last evaluation's numbers. ``ValueError`` where device, network and robot do not fit
    together: one whose state has no tool position in the world has no waypoint to say a place with.
    """

    product = BACKBONE

    def __init__(
        self, config: PretrainConfig, backbone: BackboneConfig, scenes: Scenes, *, legs: Sequence[int] = ()
    ) -> None:
        super().__init__(config, legs)
        self.part = self.group.part(config.tables)
        self.spans = lay_out((Pace(warmup_steps=config.warmup_steps),), self.legs)
        self._scenes = scenes
        first = scenes.batch(self._request("train", config.first_seed, config.statistics_tables))
        self._fingerprint = hashlib.sha256("\n".join(first.sentences).encode()).hexdigest()
        normalizer = state_normalizer(first, scenes.embodiment.state)
        seed_everything(config.seed, 0, Draw.INITIAL_WEIGHTS)
        config_of_base = base_config(backbone, scenes.embodiment, normalizer)
        looking = looking_at(config_of_base).to(self.device)
        self.base_config = replace(config_of_base, vocabulary=looking.backbone.vocabulary)
        self.inputs = LookInputs(looking.backbone, normalizer, self.device)
        seen_later = scenes.batch(self._request("held_out", 0, config.held_out_tables))
        self._unseen = list(by_tables(seen_later, config.tables))
        self.held_out: dict[str, float] = {}
        self.looking = looking
        self._freeze_what_does_not_look()
        self.take_up(looking)

    def step(self, step: int) -> dict[str, float]:
        """One optimiser step (0-based); returns losses, errors, gradient norm, rate, and held-out ones when due."""
        config, span = self.config, span_at(self.spans, step)
        last = self.legs[-1] - 1
        scenes = self._scenes.batch(self._of_step(step), self._of_step(step + 1) if step < last else None)
        batch = self.inputs(scenes)
        images = batch.observation.images
        flat = images.flatten(0, 2)
        drawn = self.part.of_each(len(flat) // len(images))
        disturbance = Disturbance.draw(config.augment, drawn.whole, config.seed, step).of(drawn.rows)
        batch = with_images(batch, disturbance.apply(flat).reshape(images.shape))
        seed_everything(config.seed, step, Draw.DROPOUT, self.group.rank)
        self.looking.train()
        self.optimizer.zero_grad(set_to_none=True)
        terms, errors = self.looking(batch.observation, batch.about, batch.target)
        numbers = {name: term.mean for name, term in self.over_all({**terms, **near(errors)}).items()}
        loss = self._weighed(numbers)
        loss.backward()
        values = self.descend(step, span, {"loss": loss.detach(), **{k: v.detach() for k, v in numbers.items()}})
        if (step + 1) % config.evaluate_every == 0 or step == last:
            with self.average.applied():
                unseen = map(self.inputs, self._unseen)
                self.held_out = self.group.from_lead(lambda: evaluate(self.looking, unseen, config.weights))
            values |= {HELD_OUT + name: value for name, value in self.held_out.items()}
        return values

    def save(self, directory: Path) -> None:
        """Write what was learned of the backbone, with averaged weights."""
        averaged = {name.removeprefix("backbone."): value for name, value in self.average.values.items()}
        save_base(self.base_config, averaged, directory)

    def settings(self) -> dict[str, Any]:
        left_out = FREE_TO_CHANGE | {"steps"}
        train = {name: value for name, value in asdict(self.config).items() if name not in left_out}
        return json.loads(
            strict_json({"train": train, "backbone": self.base_config.to_dict(), "scenes": self._fingerprint})
        )

    def memory(self) -> dict[str, Any]:
        return {"held_out": self.held_out}

    def recall(self, memory: Mapping[str, Any]) -> None:
        self.held_out = dict(memory["held_out"])

    def _weighed(self, means: Mapping[str, Tensor]) -> Tensor:
        weights = {name: weight for name, weight in vars(self.config.weights).items() if weight > 0}
        return torch.stack([weight * means[name] for name, weight in weights.items()]).sum()

    def _freeze_what_does_not_look(self) -> None:
        """Take the gradient from all parameters that no loss reaches: they would neither learn nor be of use."""
        batch = self.inputs(self._unseen[0])
        parameters = list(self.looking.parameters())
        terms, _ = self.looking(batch.observation, batch.about, batch.target)
        loss = self._weighed({name: term.mean for name, term in terms.items()})
        for parameter, reached in zip(
            parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True
        ):
            parameter.requires_grad_(reached is not None)

    def _of_step(self, step: int) -> Request:
        first_seed = self.config.first_seed + step * self.config.tables + self.part.first
        return self._request("train", first_seed, len(self.part))

    def _request(self, split: Split, first_seed: int, tables: int) -> Request:
        each = self.config.sentences_per_table
        return Request(split=split, first_seed=first_seed, tables=tables, sentences_per_table=each)


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


def looking_at(config: BaseConfig) -> Looking:
    """The objective over a fresh backbone."""
    chosen = list(config.waypoint_dims)
    offset, scale = (torch.tensor(column)[chosen] for column in (config.state.offset, config.state.scale))
    return Looking(config.build(), offset, scale)

"""A VLA: backbone and head joined into one network."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vla.backbones.nano_config import NanoConfig
from vla.config import BackboneConfig, VLAConfig
from vla.distribution import Distribution
from vla.head import Head
from vla.heads.regression import waypoint_l1
from vla.objectives import LossWeights
from vla.objectives.further import FurtherObjective, Taught
from vla.observation import ActionChunk, Begun, Keyframe, Observation

ALL_LOSSES = LossWeights()
NOTHING_TAUGHT: Taught = {}
OBJECTIVES = "objectives"
"""The part of a network that further objectives own."""


class VLA(nn.Module):
    """Backbone and head, with fresh weights from torch's random state; normalised actions out.

    Processing of raw observations is the caller's. :meth:`VLAConfig.build` makes one that has learned to look. A
    pretrained backbone has its checkpoint's weights in either case. ``saved`` is the folder that it is loaded from, if
    from any. ``config`` says what the network is made of, with what the backbone had to read from elsewhere.
    ``objectives`` are what it is to learn beside the head's loss and the waypoint's, by their names, none at first;
    what they own learns with the network, and no saved network has it. With a ``pool`` of modulators every sample is
    given the one that its words choose, whatever is asked of the network.
    """

    def __init__(self, config: VLAConfig, saved: Path | None = None) -> None:
        super().__init__()
        self.backbone = config.backbone.fresh.build(
            state_dim=config.state_dim,
            views=len(config.views),
            image_size_px=config.view_size_px,
            waypoint_dim=len(config.waypoint_dims),
            saved=saved,
        )
        known = _starting_as(config.backbone, self.backbone.config)  # equal unless something was read from elsewhere
        self.config = config if known == config.backbone else replace(config, backbone=known)
        self.head: Head[Any] = config.head.build(
            backbone=self.backbone, state_dim=config.state_dim, horizon=config.horizon, action_dim=config.action_dim
        )
        self.objectives = nn.ModuleDict()
        self.pool = None if config.pool is None else config.pool.build(self)

    def forward(
        self,
        observation: Observation,
        target: ActionChunk,
        weights: LossWeights = ALL_LOSSES,
        taught: Taught = NOTHING_TAUGHT,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The loss, so that wrappers which hook ``forward`` (DDP, FSDP) see the training step."""
        pulled = self._modulate(observation)
        if weights.action == 0 and not weights.further:  # the waypoint alone costs a part of the network
            loss, numbers = waypoint_l1(self.backbone.locate(observation), target)
            return weights.waypoint * loss + pulled, numbers
        seen = self.head.perceive(self.backbone, observation)
        losses, numbers = [], {}
        for name, weight in weights.further.items():
            learned = self._objective(name)(self, seen, target, taught)
            losses.append(weight * learned.loss)
            numbers |= learned.numbers
            target = target if learned.weight is None else replace(target, weight=learned.weight)
        if weights.waypoint and target.waypoint is not None and seen.waypoint is not None:
            loss, found = waypoint_l1(seen.waypoint, target)
            losses.insert(0, weights.waypoint * loss)
            numbers = found | numbers
        if weights.action:
            loss, found = self.head.loss(seen, target)
            losses.insert(0, weights.action * loss)
            numbers = found | numbers
        return sum(losses[1:], start=losses[0]) + pulled, numbers

    def kept(self) -> dict[str, Tensor]:
        """The weights that a checkpoint holds: all but those that the backbone was given from elsewhere, and those of
        objectives.
        """
        given = {f"backbone.{name}" for name in self.backbone.given}
        own = ((name, weight) for name, weight in self.state_dict().items() if not name.startswith(f"{OBJECTIVES}."))
        return {name: weight for name, weight in own if name not in given}

    def loss(
        self,
        observation: Observation,
        target: ActionChunk,
        weights: LossWeights = ALL_LOSSES,
        taught: Taught = NOTHING_TAUGHT,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The weighted sum of the losses, and detached scalars to log; ``taught`` is what ``objectives`` need.

        Without a waypoint, of the network's or in ``target``, the head's loss alone is left; ``TypeError`` or
        ``ValueError`` where that has no weight.
        """
        return self(observation, target, weights, taught)

    def hidden(self, observation: Observation) -> Float[Tensor, "b k d"]:
        """What the head reads its chunk off; ``TypeError`` for a head that has no such vectors."""
        return self.head.hidden(self._perceive(observation))

    @torch.no_grad()
    def act(self, observation: Observation) -> Float[Tensor, "b h a"]:
        """The chunk of normalised actions to execute."""
        return self.head.act(self._perceive(observation))

    @torch.no_grad()
    def aim(self, observation: Observation) -> Keyframe:
        """Where to go next; ``TypeError`` for a head that does not aim."""
        return self.head.aim(self._perceive(observation))

    @torch.no_grad()
    def speak(self, observation: Observation) -> tuple[Float[Tensor, "b h a"], Int[Tensor, "b m"]]:
        """The chunk to execute and the tokens of what is said of it; ``TypeError`` for a head that does not tell."""
        return self.head.speak(self._perceive(observation))

    @torch.no_grad()
    def go_on(self, observation: Observation, begun: Begun) -> Float[Tensor, "b h a"]:
        """The chunk to execute after what is ``begun``; ``TypeError`` for a head that cannot."""
        return self.head.go_on(self._perceive(observation), begun)

    def distribution(self, observation: Observation) -> Distribution:
        """Over chunks of normalised actions, with gradient; ``TypeError`` for a head that has none."""
        return self.head.distribution(self._perceive(observation))

    def _perceive(self, observation: Observation) -> Any:
        self._modulate(observation)
        return self.head.perceive(self.backbone, observation)

    def _modulate(self, observation: Observation) -> Float[Tensor, ""] | float:
        """Choose a modulator for every sample, if there are any; what the loss is to count of the choice."""
        if self.pool is None:
            return 0.0
        return -self.pool.config.pull * self.pool.choose(self.backbone, observation).mean()

    def _objective(self, name: str) -> FurtherObjective:
        if name not in self.objectives:
            raise ValueError(f"the weights count the objective {name!r}, the network learns {sorted(self.objectives)}")
        return self.objectives[name]  # pyright: ignore[reportReturnType]


def _starting_as(given: BackboneConfig, known: BackboneConfig) -> BackboneConfig:
    """``known`` with the first weights that ``given`` names, where there is a choice of them."""
    return replace(known, weights=given.weights) if isinstance(known, NanoConfig) else known

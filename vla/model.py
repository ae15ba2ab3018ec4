"""A VLA: backbone and head joined into one network."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.backbones.nano_config import NanoConfig
from vla.config import BackboneConfig, VLAConfig
from vla.distribution import Distribution
from vla.head import Head
from vla.heads.regression import waypoint_l1
from vla.objectives import LossWeights
from vla.observation import ActionChunk, Begun, Observation

ALL_LOSSES = LossWeights()


class VLA(nn.Module):
    """Backbone and head, with fresh weights from torch's random state; normalised actions out.

    Processing of raw observations is the caller's. :meth:`VLAConfig.build` makes one that has learned to look. A
    pretrained backbone has its checkpoint's weights in either case. ``saved`` is the folder that it is loaded from, if
    from any. ``config`` says what the network is made of, with what the backbone had to read from elsewhere.
    """

    def __init__(self, config: VLAConfig, saved: Path | None = None) -> None:
        super().__init__()
        self.backbone = config.backbone.fresh.build(
            state_dim=config.state_dim,
            views=len(config.cameras),
            image_size_px=config.image_size_px,
            waypoint_dim=len(config.waypoint_dims),
            saved=saved,
        )
        known = _starting_as(config.backbone, self.backbone.config)  # equal unless something was read from elsewhere
        self.config = config if known == config.backbone else replace(config, backbone=known)
        self.head: Head[Any] = config.head.build(
            backbone=self.backbone, state_dim=config.state_dim, horizon=config.horizon, action_dim=config.action_dim
        )

    def forward(
        self, observation: Observation, target: ActionChunk, weights: LossWeights = ALL_LOSSES
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The loss, so that wrappers which hook ``forward`` (DDP, FSDP) see the training step."""
        if weights.action == 0:  # the waypoint alone costs a part of the network
            loss, numbers = waypoint_l1(self.backbone.locate(observation), target)
            return weights.waypoint * loss, numbers
        seen = self.head.perceive(self.backbone, observation)
        loss, numbers = self.head.loss(seen, target)
        loss = weights.action * loss
        if weights.waypoint == 0 or target.waypoint is None or seen.waypoint is None:
            return loss, numbers
        waypoint_loss, waypoint_numbers = waypoint_l1(seen.waypoint, target)
        return loss + weights.waypoint * waypoint_loss, numbers | waypoint_numbers

    def kept(self) -> dict[str, Tensor]:
        """The weights that a checkpoint holds: all but those that the backbone was given from elsewhere."""
        given = {f"backbone.{name}" for name in self.backbone.given}
        return {name: weight for name, weight in self.state_dict().items() if name not in given}

    def loss(
        self, observation: Observation, target: ActionChunk, weights: LossWeights = ALL_LOSSES
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The weighted sum of the losses, and detached scalars to log.

        Without a waypoint, of the network's or in ``target``, the head's loss alone is left; ``TypeError`` or
        ``ValueError`` where that has no weight.
        """
        return self(observation, target, weights)

    @torch.no_grad()
    def act(self, observation: Observation) -> Float[Tensor, "b h a"]:
        """The chunk of normalised actions to execute."""
        return self.head.act(self.head.perceive(self.backbone, observation))

    @torch.no_grad()
    def go_on(self, observation: Observation, begun: Begun) -> Float[Tensor, "b h a"]:
        """The chunk to execute after what is ``begun``; ``TypeError`` for a head that cannot."""
        return self.head.go_on(self.head.perceive(self.backbone, observation), begun)

    def distribution(self, observation: Observation) -> Distribution:
        """Over chunks of normalised actions, with gradient; ``TypeError`` for a head that has none."""
        return self.head.distribution(self.head.perceive(self.backbone, observation))


def _starting_as(given: BackboneConfig, known: BackboneConfig) -> BackboneConfig:
    """``known`` with the first weights that ``given`` names, where there is a choice of them."""
    return replace(known, weights=given.weights) if isinstance(known, NanoConfig) else known

"""From rendered scenes to what a backbone learns to look from."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from envs.specs import Grounding
from policies.network_input import network_images
from policies.processors import Normalizer
from vla.backbone import Backbone
from vla.grounding import GroundingTarget
from vla.observation import Observation


@dataclass(frozen=True, kw_only=True)
class LookBatch:
    """What :class:`vla.grounding.Looking` takes: sentence i is about row ``about[i]`` of the pictures."""

    observation: Observation
    about: Int[Tensor, " n"]
    target: GroundingTarget


class LookInputs:
    """Puts scenes on the network's device: resized, tokenised, normalised."""

    def __init__(self, backbone: Backbone, state: Normalizer, device: torch.device) -> None:
        self._backbone, self._state, self._device = backbone, state, device

    def __call__(self, scenes: Grounding) -> LookBatch:
        """``ValueError`` for scenes without a sentence, or with one that is longer than the text window."""
        device = self._device
        self._backbone.check_texts(scenes.sentences)
        text, text_mask = self._backbone.tokenize(scenes.sentences)
        images = network_images(scenes.images.to(device), self._backbone.image_size_px)[:, None]
        observation = Observation(
            images=images,
            view_mask=torch.ones(images.shape[:3], dtype=torch.bool, device=device),
            text=text.to(device),
            text_mask=text_mask.to(device),
            state=self._state.normalize(scenes.state.to(device)),
        )
        target = GroundingTarget(
            point_m=scenes.point_m.to(device),
            pixel=scenes.pixel.to(device),
            cover=scenes.cover.to(device),
            seen=scenes.seen.to(device),
        )
        return LookBatch(observation=observation, about=scenes.table.to(device), target=target)


def with_images(batch: LookBatch, images: Float[Tensor, "b t v 3 h w"]) -> LookBatch:
    """``batch`` with other pictures."""
    return replace(batch, observation=replace(batch.observation, images=images))


def by_tables(scenes: Grounding, tables: int) -> Iterator[Grounding]:
    """``scenes`` in pieces of so many tables; those without a sentence are left out."""
    for first in range(0, len(scenes.images), tables):
        here = slice(first, first + tables)
        said = ((scenes.table >= first) & (scenes.table < first + tables)).nonzero()[:, 0]
        if len(said):
            yield Grounding(
                images=scenes.images[here],
                state=scenes.state[here],
                table=scenes.table[said] - first,
                sentences=tuple(scenes.sentences[i] for i in said.tolist()),
                point_m=scenes.point_m[said],
                pixel=scenes.pixel[said],
                cover=scenes.cover[said],
                seen=scenes.seen[said],
            )

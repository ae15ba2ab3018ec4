"""From rendered scenes to what a backbone learns to look from."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from envs.specs import Asked, Grounding, Told
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
    """``scenes`` in pieces of so many tables; those without a sentence that names a thing are left out."""
    told, asked = scenes.told, scenes.asked
    for first in range(0, len(scenes.images), tables):
        here = slice(first, first + tables)
        said, of_told, of_asked = (_rows(each.table, here) for each in (scenes, told, asked))
        if len(said):
            yield Grounding(
                images=scenes.images[here],
                state=scenes.state[here],
                table=scenes.table[said] - first,
                sentences=_taken(scenes.sentences, said),
                point_m=scenes.point_m[said],
                pixel=scenes.pixel[said],
                cover=scenes.cover[said],
                seen=scenes.seen[said],
                told=Told(
                    table=told.table[of_told] - first,
                    sentences=_taken(told.sentences, of_told),
                    false=_taken(told.false, of_told),
                ),
                asked=Asked(
                    table=asked.table[of_asked] - first,
                    questions=_taken(asked.questions, of_asked),
                    answers=_taken(asked.answers, of_asked),
                ),
            )


def _rows(table: Int[Tensor, " n"], tables: slice) -> Int[Tensor, " m"]:
    """Which are about one of ``tables``."""
    return ((table >= tables.start) & (table < tables.stop)).nonzero()[:, 0]


def _taken(texts: tuple[str, ...], rows: Int[Tensor, " m"]) -> tuple[str, ...]:
    return tuple(texts[i] for i in rows.tolist())

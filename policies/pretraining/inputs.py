"""From rendered scenes to what a backbone learns from."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from envs.specs import Asked, Grounding, Receivers, Told
from policies.network_input import network_images
from policies.processors import Normalizer
from vla.backbone import Backbone
from vla.objectives.material import Captions, GroundingTarget, Material, Need, Questions, Referents, Words

R = TypeVar("R", Receivers, Told, Asked)


class MaterialInputs:
    """Puts scenes on the network's device: resized, tokenised, normalised; of what is said, that which is needed."""

    def __init__(self, backbone: Backbone, state: Normalizer, needs: frozenset[Need], device: torch.device) -> None:
        self._backbone, self._state, self._needs, self._device = backbone, state, needs, device

    def __call__(self, scenes: Grounding) -> Material:
        """``ValueError`` that names a text which is longer than the text window."""
        device = self._device
        images = network_images(scenes.images.to(device), self._backbone.image_size_px)[:, None]
        return Material(
            images=images,
            view_mask=torch.ones(images.shape[:3], dtype=torch.bool, device=device),
            state=self._state.normalize(scenes.state.to(device)),
            nothing=self.words([""]),
            referents=self._referents(scenes) if "referents" in self._needs and scenes.sentences else None,
            captions=self._captions(scenes.told) if "captions" in self._needs and scenes.told.sentences else None,
            questions=self._questions(scenes.asked) if "questions" in self._needs and scenes.asked.questions else None,
        )

    def words(self, texts: Sequence[str], ended: bool = False) -> Words:
        """Whole texts in tokens; ``ValueError`` for one that the window does not hold, its end included."""
        ids, mask = self._backbone.tokenize(texts, ended)
        if ids.shape[1] > self._backbone.text_window + ended:  # the last token is told, but tells nothing
            self._backbone.check_texts(texts)
        return Words(ids=ids.to(self._device), mask=mask.to(self._device))

    def _referents(self, scenes: Grounding) -> Referents:
        return Referents(
            words=self.words(scenes.sentences),
            about=scenes.table.to(self._device),
            target=self._target(scenes),
            brought=scenes.receivers.sentence.to(self._device),
            receivers=self._target(scenes.receivers),
        )

    def _target(self, places: Grounding | Receivers) -> GroundingTarget:
        return GroundingTarget(
            point_m=places.point_m.to(self._device),
            pixel=places.pixel.to(self._device),
            cover=places.cover.to(self._device),
            seen=places.seen.to(self._device),
        )

    def _captions(self, told: Told) -> Captions:
        return Captions(
            words=self.words(told.sentences),
            told=self.words(told.sentences, ended=True),
            false=self.words(told.false),
            about=told.table.to(self._device),
        )

    def _questions(self, asked: Asked) -> Questions:
        return Questions(
            words=self.words(asked.questions),
            answers=self.words(asked.answers, ended=True),
            about=asked.table.to(self._device),
        )


def by_tables(scenes: Grounding, tables: int) -> Iterator[Grounding]:
    """``scenes`` in pieces of so many tables, each with what is said of them."""
    for first in range(0, len(scenes.images), tables):
        here, said = slice(first, first + tables), _rows(scenes.table, first, tables)
        first_said = int(said[0]) if len(said) else 0  # sentences follow the order of the tables
        yield Grounding(
            images=scenes.images[here],
            state=scenes.state[here],
            table=scenes.table[said] - first,
            sentences=_picked(scenes.sentences, said),
            point_m=scenes.point_m[said],
            pixel=scenes.pixel[said],
            cover=scenes.cover[said],
            seen=scenes.seen[said],
            receivers=_about(scenes.receivers, "sentence", first_said, len(said)),
            told=_about(scenes.told, "table", first, tables),
            asked=_about(scenes.asked, "table", first, tables),
        )


def _about(record: R, column: str, first: int, count: int) -> R:
    """The rows of a record that are about ``count`` tables or sentences from ``first`` on, as ``column`` says."""
    rows = _rows(getattr(record, column), first, count)
    chosen = {name: x[rows] if isinstance(x, Tensor) else _picked(x, rows) for name, x in vars(record).items()}
    return replace(record, **{**chosen, column: chosen[column] - first})  # pyright: ignore[reportOperatorIssue]


def _rows(about: Int[Tensor, " n"], first: int, count: int) -> Int[Tensor, " m"]:
    return ((about >= first) & (about < first + count)).nonzero()[:, 0]


def _picked(texts: tuple[str, ...], index: Int[Tensor, " m"]) -> tuple[str, ...]:
    return tuple(texts[i] for i in index.tolist())

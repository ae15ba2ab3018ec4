"""What objectives learn from: pictures of tables, and what is said about them, in tokens."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vla.observation import Observation

Need = Literal["referents", "captions", "questions", "lessons"]
"""Fields of :class:`Material` that are filled where an objective needs them."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """Texts in tokens; ``mask`` is True for real ones."""

    ids: Int[Tensor, "n m"]
    mask: Bool[Tensor, "n m"]


@dataclass(frozen=True, kw_only=True)
class GroundingTarget:
    """Where the referent of each of n sentences is.

    ``point_m`` is its middle in the world and ``pixel`` (x, y) in each view, −1 … 1 from the left or upper edge of the
    picture to the other; ``cover`` is what shows of it, and ``seen`` where that is enough to learn from.
    """

    point_m: Float[Tensor, "n 3"]
    pixel: Float[Tensor, "n v 2"]
    cover: Bool[Tensor, "n v h w"]
    seen: Bool[Tensor, "n v"]

    def of_the_seen(self) -> "GroundingTarget":
        """This one with 0 for the places of what is not seen, which may be anything, NaN included."""
        return replace(
            self,
            point_m=self.point_m.masked_fill(~self.seen.any(dim=1, keepdim=True), 0.0),
            pixel=self.pixel.masked_fill(~self.seen[..., None], 0.0),
        )


@dataclass(frozen=True, kw_only=True)
class Referents:
    """Sentences that name one thing each, on table ``about[i]``, and where it is.

    Sentences ``brought`` also name where to bring it: the ``receivers``, a row for each of them.
    """

    words: Words
    about: Int[Tensor, " n"]
    target: GroundingTarget
    brought: Int[Tensor, " m"]
    receivers: GroundingTarget


@dataclass(frozen=True, kw_only=True)
class Captions:
    """What is to be said of table ``about[i]``, and to each a sentence that is nearly the same but false of it.

    ``told`` are the same as ``words``, and ended.
    """

    words: Words
    told: Words
    false: Words
    about: Int[Tensor, " n"]


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Questions about table ``about[i]``, and their answers, which are ended."""

    words: Words
    answers: Words
    about: Int[Tensor, " n"]


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """Sentences about nothing that is shown, and the unit vectors that a sentence encoder gives them."""

    words: Words
    embedding: Float[Tensor, "n e"]


@dataclass(frozen=True, kw_only=True)
class Material:
    """Pictures of b tables with the robot's normalised state, and what is said about them; None where nothing is.

    Axes as in :class:`Observation`. ``nothing`` is the empty text.
    """

    images: Float[Tensor, "b t v 3 h w"]
    view_mask: Bool[Tensor, "b t v"]
    state: Float[Tensor, "b d"]
    nothing: Words
    referents: Referents | None = None
    captions: Captions | None = None
    questions: Questions | None = None
    lessons: Lessons | None = None

    @property
    def holds(self) -> frozenset[Need]:
        """What is said about them."""
        return frozenset(name for name in get_args(Need) if getattr(self, name) is not None)

    def read(self, words: Words) -> Observation:
        """The pictures, and ``words`` instead of instructions: as many as there are, whatever they are about."""
        return Observation(
            images=self.images, view_mask=self.view_mask, text=words.ids, text_mask=words.mask, state=self.state
        )

    def silent(self, count: int) -> Observation:
        """The pictures, and the empty text so many times."""
        return self.read(Words(ids=self.nothing.ids.expand(count, -1), mask=self.nothing.mask.expand(count, -1)))


def blind(observation: Observation) -> Observation:
    """``observation`` with every view missing."""
    return replace(observation, view_mask=torch.zeros_like(observation.view_mask))

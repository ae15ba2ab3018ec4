"""What an objective is: one part of what a backbone learns, with what it needs for it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from vla.backbone import Backbone
from vla.objectives.material import Material, Need
from vla.objectives.terms import Term


@dataclass(frozen=True, kw_only=True)
class ObjectiveWeights:
    """Weights of the terms in their sum; one of weight 0 is left out of it, and an objective without any is not there.

    ``point`` counts a metre of mean distance along an axis of the world, ``pixel`` half a picture's side along an axis
    of the picture, ``heatmap`` a nat of cross-entropy. ``caption`` and ``answer`` count a nat of a told token;
    ``blind`` likewise of a caption's without pictures, and where it is above 0, a caption's token counts by how
    improbable it is to the network without them (see :class:`vla.objectives.telling.Telling`). ``matching`` counts a
    nat of whether caption and pictures belong together, ``teacher`` a cosine's distance from 1, ``features`` the mean
    square of the difference to what the same network makes of the pictures after it has learned further.
    """

    point: float = 10.0
    pixel: float = 1.0
    heatmap: float = 0.1
    caption: float = 0.3
    answer: float = 0.3
    blind: float = 0.0
    matching: float = 0.1
    teacher: float = 1.0
    features: float = 0.0

    def __post_init__(self) -> None:
        weights = tuple(vars(self).values())
        if not all(weight >= 0 for weight in weights) or not 0 < sum(weights) < math.inf:
            raise ValueError(f"loss weights must be 0 or more and one of them above 0, got {self}")
        if self.blind and not self.caption:
            raise ValueError(f"blind weighs the tokens of captions, and needs a weight of them, got {self}")


@dataclass(frozen=True)
class Found:
    """``terms`` by the names of their weights, which carry the gradient; ``numbers`` to log, and ``samples`` of those
    whose median matters, which carry none.
    """

    terms: dict[str, Term] = field(default_factory=dict)
    numbers: dict[str, Term] = field(default_factory=dict)
    samples: dict[str, Float[Tensor, " n"]] = field(default_factory=dict)

    def __or__(self, other: "Found") -> "Found":
        return Found(self.terms | other.terms, self.numbers | other.numbers, self.samples | other.samples)


class Objective(nn.Module, ABC):
    """One part of what a backbone learns; it may own parameters beside the backbone's.

    ``TERMS`` names the terms it can have, and what of the material each is made of. ``weights`` holds those that count.
    """

    TERMS: ClassVar[Mapping[str, Need]]

    def __init__(self, weights: ObjectiveWeights) -> None:
        super().__init__()
        self.weights = {name: weight for name in self.TERMS if (weight := getattr(weights, name)) > 0}

    @property
    def needs(self) -> frozenset[Need]:
        """What the terms that count are made of."""
        return frozenset(self.TERMS[name] for name in self.weights)

    @abstractmethod
    def forward(self, backbone: Backbone, material: Material, seen: Any = None) -> Found:
        """The terms of what ``material`` holds; those of which it holds nothing are left out.

        ``seen`` is what ``backbone.see`` gave for its pictures, if that was asked before.
        """

"""All that a backbone learns at once, as one module."""

from collections.abc import Mapping
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.backbone import Backbone
from vla.objectives.keeping import FurtherFeatures
from vla.objectives.looking import Looking
from vla.objectives.matching import Matching
from vla.objectives.material import Material, Need
from vla.objectives.objective import Found, Objective, ObjectiveWeights
from vla.objectives.teaching import TextTeacher
from vla.objectives.telling import Telling
from vla.objectives.terms import Term

BACKBONE, PARTS = "backbone", "parts"
T = TypeVar("T", bound=Objective)


class Objectives(nn.Module):
    """A backbone and the objectives that it learns; those without a weight are not there.

    ``parts`` holds what objectives own, apart from the backbone, by their names.
    """

    def __init__(self, backbone: Backbone, parts: Mapping[str, Objective]) -> None:
        super().__init__()
        self.backbone = backbone
        self.parts = nn.ModuleDict({name: part for name, part in parts.items() if part.weights})
        if not self.parts:
            raise ValueError("expected an objective with a weight above 0, got none")

    @property
    def weights(self) -> dict[str, float]:
        """Of the terms that count."""
        return {name: weight for part in self._each() for name, weight in part.weights.items()}

    @property
    def needs(self) -> frozenset[Need]:
        """What of a material the terms that count are made of."""
        return frozenset[Need]().union(*(part.needs for part in self._each()))

    def get(self, kind: type[T]) -> T | None:
        """The objective of this kind, if it is there."""
        return next((part for part in self._each() if isinstance(part, kind)), None)

    def forward(self, material: Material) -> Found:
        """The terms and numbers of all; the pictures are encoded once."""
        shown = material.referents, material.captions, material.questions
        seen = None if shown == (None, None, None) else self.backbone.see(material.silent(len(material.images)))
        found = Found()
        for part in self._each():
            found |= part(self.backbone, material, seen)
        return found

    def loss(self, terms: Mapping[str, Term]) -> Float[Tensor, ""]:
        """The weighed sum of the terms' means; ``ValueError`` where none of them counts."""
        counted = [weight * terms[name].mean for name, weight in self.weights.items() if name in terms]
        if not counted:
            raise ValueError(f"expected some of the terms {sorted(self.weights)}, got {sorted(terms)}")
        return torch.stack(counted).sum()

    def _each(self) -> list[Objective]:
        return list(self.parts.values())  # pyright: ignore[reportReturnType]


def all_objectives(
    backbone: Backbone,
    weights: ObjectiveWeights,
    *,
    offset_m: Float[Tensor, " 3"],
    scale_m: Float[Tensor, " 3"],
    teacher_dim: int = 0,
    further: Backbone | None = None,
) -> Objectives:
    """Every objective that has a weight, over ``backbone``; the teacher's where ``teacher_dim`` is not 0, and that of
    the features of ``further`` where that is given.

    The order in which they are made decides their first weights. ``ValueError`` and ``TypeError`` where the backbone
    lacks what one of them needs.
    """
    made: dict[str, Objective] = {}
    if weights.point + weights.pixel + weights.heatmap:
        made["looking"] = Looking(backbone, weights, offset_m=offset_m, scale_m=scale_m)
    if weights.caption + weights.answer:
        made["telling"] = Telling(backbone, weights)
    if weights.matching:
        made["matching"] = Matching(backbone, weights)
    if weights.teacher and teacher_dim:
        made["text_teacher"] = TextTeacher(backbone, weights, teacher_dim)
    if weights.features and further is not None:
        made["features"] = FurtherFeatures(backbone, weights, further)
    return Objectives(backbone, made)

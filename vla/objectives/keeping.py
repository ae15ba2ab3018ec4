"""Learning again from the start, towards what the same network made of the pictures after it had learned further.

Self-distillation for further pre-training (arXiv 2210.02871): a network is pre-trained further, then once more from the
weights that it had before, with the features of the first time as targets, which keeps it near to where it began.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vla.backbone import Backbone
from vla.objectives.material import Material, Need
from vla.objectives.objective import Found, Objective, ObjectiveWeights
from vla.objectives.terms import Term


class FurtherFeatures(Objective):
    """Mean square of the difference between the mean token of a table's pictures and that of the network ``further``.

    It is made of the pictures alone, whatever is said of them; where nothing is said that the pictures are encoded for,
    it is left out. Departures: the mean of the tokens stands for the paper's CLS, and the mean over its numbers for
    their sum. ``further`` is no part of what learns or is saved.
    """

    TERMS: ClassVar[Mapping[str, Need]] = {"features": "referents"}

    def __init__(self, backbone: Backbone, weights: ObjectiveWeights, further: Backbone) -> None:
        super().__init__(weights)
        if further.width != backbone.width:
            raise ValueError(f"expected features of {backbone.width} numbers to keep, got {further.width}")
        self._further = (further.eval().requires_grad_(False),)  # in a tuple, it is no module of this one

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset()

    def forward(self, backbone: Backbone, material: Material, seen: Any = None) -> Found:
        if seen is None:
            return Found()
        with torch.no_grad():
            theirs = _pooled(self._further[0], material)
        square = (_pooled(backbone, material, seen) - theirs).square().mean(dim=-1)
        return Found({"features": Term.over(square, torch.ones_like(square, dtype=torch.bool))})


def _pooled(backbone: Backbone, material: Material, seen: Any = None) -> Float[Tensor, "b d"]:
    tokens, mask = backbone.patches(material.silent(len(material.images)), seen)
    real = mask[..., None].float()
    return (tokens.float() * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)

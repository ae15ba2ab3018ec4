"""Learning what sentences mean from a sentence encoder: what is alike to it is to be alike to the backbone."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vla.backbone import Backbone
from vla.objectives.material import Material, Need, Words
from vla.objectives.objective import Found, Objective, ObjectiveWeights
from vla.objectives.terms import Term


class TextTeacher(Objective):
    """1 − the cosine of a linear map of the backbone's sentences to the teacher's vectors, of ``teacher_dim`` numbers.

    It reaches the text encoder alone, and costs little.
    """

    TERMS: ClassVar[Mapping[str, Need]] = {"teacher": "lessons"}

    def __init__(self, backbone: Backbone, weights: ObjectiveWeights, teacher_dim: int) -> None:
        super().__init__(weights)
        self.out = nn.Linear(backbone.width, teacher_dim)

    def forward(self, backbone: Backbone, material: Material, seen: Any = None) -> Found:
        if material.lessons is None:
            return Found()
        lessons = material.lessons
        cosine = (self.read(backbone, lessons.words) * lessons.embedding).sum(dim=-1)
        every = torch.ones_like(cosine, dtype=torch.bool)
        return Found({"teacher": Term.over(1 - cosine, every)}, {"teacher_cosine": Term.over(cosine.detach(), every)})

    def read(self, backbone: Backbone, words: Words) -> Float[Tensor, "n e"]:
        """Unit vectors that are to be the teacher's."""
        return functional.normalize(self.out(backbone.sentence(words.ids, words.mask)), dim=-1)

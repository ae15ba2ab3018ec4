"""Learning what belongs together: a tower for pictures and one for sentences, both onto the unit sphere.

The loss is SigLIP's (arXiv 2303.15343): each pair of a sentence and a table is a yes or no of its own, so that it needs
no large batch. Their cosine serves to retrieve, and as a reward.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from vla.backbone import Backbone
from vla.objectives.material import Material, Need, Words
from vla.objectives.objective import Found, Objective, ObjectiveWeights
from vla.objectives.terms import Term

UNIT_DIM = 128
PROBES = 4
"""Learned questions to the pictures' tokens, whose answers the picture tower is made of."""


class Matching(Objective):
    """Sigmoid loss over all captions and tables of a batch, and over each table with its false caption.

    Tables other than a caption's own count as unfit for it, as in SigLIP, whatever they show; a false caption is
    held against its own table alone, of which it is known to be false. Term's count is that of the captions.
    """

    TERMS: ClassVar[Mapping[str, Need]] = {"matching": "captions"}

    def __init__(self, backbone: Backbone, weights: ObjectiveWeights) -> None:
        super().__init__(weights)
        width = backbone.width
        self.probes = nn.Parameter(torch.randn(PROBES, width))
        self.token_norm = nn.LayerNorm(width)
        self.picture = _tower(PROBES * width, width)
        self.sentence = _tower(width, width)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-10.0))

    def forward(self, backbone: Backbone, material: Material, seen: Any = None) -> Found:
        if material.captions is None:
            return Found()
        captions = material.captions
        pictures = self.see(backbone, material, seen)
        said, false = (self.read(backbone, words) for words in (captions.words, captions.false))
        own = pictures[captions.about]
        cosine, false_cosine = said @ pictures.T, (false * own).sum(dim=-1)
        fits = functional.one_hot(captions.about, len(pictures)).bool()
        losses = functional.softplus(self.logits(cosine) * torch.where(fits, -1, 1)).sum(dim=1)
        losses = losses + functional.softplus(self.logits(false_cosine))
        every = torch.ones_like(losses, dtype=torch.bool)
        told_apart = ((said * own).sum(dim=-1) > false_cosine).float().detach()
        return Found({"matching": Term.over(losses, every)}, {"told_apart": Term.over(told_apart, every)})

    def see(self, backbone: Backbone, material: Material, seen: Any = None) -> Float[Tensor, "b e"]:
        """The unit vector of all pictures of each table."""
        tokens, mask = backbone.patches(material.silent(len(material.images)), seen)
        tokens = self.token_norm(tokens)
        score = (tokens @ self.probes.T / math.sqrt(tokens.shape[-1])).masked_fill(~mask[..., None], float("-inf"))
        pooled = score.softmax(dim=1).mT @ tokens
        return functional.normalize(self.picture(pooled.flatten(1)), dim=-1)

    def read(self, backbone: Backbone, words: Words) -> Float[Tensor, "n e"]:
        """The unit vector of each sentence."""
        return functional.normalize(self.sentence(backbone.sentence(words.ids, words.mask)), dim=-1)

    def logits(self, cosine: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Of belonging together."""
        return cosine * self.log_temperature.exp() + self.bias


def recall_at_1(
    said: Float[Tensor, "n e"], pictures: Float[Tensor, "b e"], fits: Bool[Tensor, "n b"]
) -> tuple[Term, Term]:
    """How often the nearest table of a sentence fits it, and how often the nearest sentence of a table does.

    A table that no sentence fits does not ask.
    """
    cosine = said @ pictures.T
    found = fits.gather(1, cosine.argmax(dim=1, keepdim=True))[:, 0]
    heard = fits.gather(0, cosine.argmax(dim=0, keepdim=True))[0]
    return Term.over(found.float(), torch.ones_like(found)), Term.over(heard.float(), fits.any(dim=0))


def _tower(size_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size_in, 2 * width), nn.GELU(), nn.Linear(2 * width, UNIT_DIM))

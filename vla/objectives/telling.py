"""Learning to tell: what a table shows, and answers to questions about it, token by token.

The network is a prefix-LM: what is told attends to pictures, text (the question, or nothing) and state, and to what was
told before. A token's logits are its embedding's products with a map of the hidden state.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from vla.backbone import Backbone
from vla.objectives.material import Captions, Material, Need, Words, blind
from vla.objectives.objective import Found, Objective, ObjectiveWeights
from vla.objectives.terms import Term
from vla.observation import Observation


class Telling(Objective):
    """Next-token loss on captions and on answers to questions, over a backbone that can tell.

    Where ``blind`` has a weight, captions are also told without pictures, and each of their tokens counts by 1 − p, its
    probability p being that of the same network without them, scaled to a mean of 1: PRIOR's weights, which spare the
    network what language alone foretells, except that PRIOR's p is a separate language model's. The robot's state is
    there in both. ``TypeError`` for a backbone that cannot tell.
    """

    TERMS: ClassVar[Mapping[str, Need]] = {"caption": "captions", "blind": "captions", "answer": "questions"}

    def __init__(self, backbone: Backbone, weights: ObjectiveWeights) -> None:
        super().__init__(weights)
        entries, width = backbone.words.shape
        self.end_id, self.window = backbone.end_id, backbone.text_window
        scale = backbone.token_scale()
        self.role = nn.Parameter(scale * torch.randn(width))
        self.position = nn.Parameter(scale * torch.randn(self.window, width))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.entry_bias = nn.Parameter(torch.zeros(entries))

    def forward(self, backbone: Backbone, material: Material, seen: Any = None) -> Found:
        found = Found()
        if material.captions is not None and "caption" in self.weights:
            found |= self._of_captions(backbone, material, material.captions, seen)
        if material.questions is not None and "answer" in self.weights:
            asked = material.questions
            answer = self.surprise(backbone, material.read(asked.words), asked.about, asked.answers, seen)
            found |= Found({"answer": Term.over(answer, asked.answers.mask[:, 1:])})
        return found

    def _of_captions(self, backbone: Backbone, material: Material, captions: Captions, seen: Any) -> Found:
        observation, about, told = material.silent(len(captions.about)), captions.about, captions.told
        counts = told.mask[:, 1:]
        surprise = self.surprise(backbone, observation, about, told, seen)
        numbers = {"caption_nll": Term.over(surprise.detach(), counts)}
        if "blind" not in self.weights:
            return Found({"caption": Term.over(surprise, counts)}, numbers)
        unseen = self.surprise(backbone, blind(observation), about, told, seen)
        weighed = Term.over(surprise * improbability(unseen, counts), counts)
        return Found({"caption": weighed, "blind": Term.over(unseen, counts)}, numbers)

    def surprise(
        self,
        backbone: Backbone,
        observation: Observation,
        about: Int[Tensor, " n"],
        told: Words,
        seen: Any = None,
    ) -> Float[Tensor, "n m"]:
        """−log p of each of ``told`` but the first, given all before it; of no meaning where that is padding."""
        log_p = self.log_probabilities(backbone, observation, about, told.ids[:, :-1], told.mask[:, :-1], seen)
        return -log_p.gather(2, told.ids[:, 1:, None])[..., 0]

    def log_probabilities(
        self,
        backbone: Backbone,
        observation: Observation,
        about: Int[Tensor, " n"],
        ids: Int[Tensor, "n m"],
        mask: Bool[Tensor, "n m"],
        seen: Any = None,
    ) -> Float[Tensor, "n m c"]:
        """Of every entry of the vocabulary as the one after each token told.

        ``ValueError`` for more tokens than the text window has.
        """
        if ids.shape[1] > self.window:
            raise ValueError(f"expected at most {self.window} tokens to tell, got {ids.shape[1]}")
        embedded = functional.embedding(ids, backbone.words) + self.position[: ids.shape[1]] + self.role
        hidden = self.out(backbone.tell(observation, about, embedded, mask, seen))
        logits = hidden @ backbone.words.T / math.sqrt(hidden.shape[-1]) + self.entry_bias
        return logits.float().log_softmax(dim=-1)

    @torch.no_grad()
    def answer(
        self,
        backbone: Backbone,
        observation: Observation,
        about: Int[Tensor, " n"],
        longest: int,
        seen: Any = None,
    ) -> Int[Tensor, "n m"]:
        """What is told, the likeliest token each time, until all have ended or ``longest`` tokens are told.

        After the end there are but ends. The empty text asks for a caption. ``seen`` is asked for once, if at all.
        """
        seen = backbone.see(observation) if seen is None else seen
        start = backbone.tokenize([""])[0][0, :1].to(about.device)
        ids = start.expand(len(about), 1)
        ended = torch.zeros(len(about), dtype=torch.bool, device=about.device)
        for _ in range(min(longest, self.window)):
            log_p = self.log_probabilities(backbone, observation, about, ids, torch.ones_like(ids).bool(), seen)
            token = log_p[:, -1].argmax(dim=-1).masked_fill(ended, self.end_id)
            ids, ended = torch.cat([ids, token[:, None]], dim=1), ended | (token == self.end_id)
            if ended.all():
                break
        return ids[:, 1:]


def improbability(surprise: Float[Tensor, "n m"], mask: Bool[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """1 − p of each token from its −log p, scaled to a mean of 1 where ``mask`` counts; no gradient."""
    improbable = (1 - (-surprise.detach()).exp()).masked_fill(~mask, 0.0)
    mean = improbable.sum() / mask.sum().clamp(min=1)
    return improbable / mean.clamp(min=torch.finfo(mean.dtype).tiny)

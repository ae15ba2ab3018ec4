"""How well a backbone does what it learned, on scenes that it never saw."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from envs.specs import Grounding, Told
from policies.pretraining.inputs import MaterialInputs
from vla.objectives import Term
from vla.objectives.matching import Matching, recall_at_1
from vla.objectives.material import Lessons, Material, Questions
from vla.objectives.objective import Found
from vla.objectives.telling import Telling
from vla.objectives.together import Objectives

AMONG = 64
"""Tables among which that of a caption is sought, and captions among which that of a table is."""


@torch.no_grad()
def evaluate(
    objectives: Objectives, inputs: MaterialInputs, pieces: Iterable[Grounding], lessons: Lessons | None = None
) -> dict[str, float]:
    """Losses and numbers over all of ``pieces``, each text counted alike; ``loss`` is the weighed sum.

    Beside the means, ``world_cm_median``: of the distance to the referent, where any view sees it. ``answers`` is the
    share of questions whose likeliest answer is the right one, token by token, and ``answers_yes_no``,
    ``answers_number`` and ``answers_words`` by what the right one is. ``caption_to_table`` and ``table_to_caption`` are
    the recall at 1 among ``AMONG``. The network is put in evaluation mode. ``ValueError`` without a piece.
    """
    objectives.eval()
    tally, gallery = Tally(), Gallery()
    telling, matching = objectives.get(Telling), objectives.get(Matching)
    material = None
    for scenes in pieces:
        material = inputs(scenes)
        tally.add(objectives(material))
        if telling is not None and material.questions is not None:
            tally.add(Found(numbers=_answers(objectives, telling, material, material.questions)))
        if matching is not None and material.captions is not None:
            pictures = matching.see(objectives.backbone, material)
            gallery.add(pictures, matching.read(objectives.backbone, material.captions.words), scenes.told)
    if material is None:
        raise ValueError("expected scenes to evaluate on, got none")
    if lessons is not None:
        nothing = {name: None for name in material.holds}
        tally.add(objectives(replace(material, **nothing | {"lessons": lessons})))
    tally.add(Found(numbers=gallery.recall()))
    return tally.values(objectives.weights)


@dataclass
class Tally:
    """What was found so far."""

    terms: dict[str, list[Term]] = field(default_factory=dict)
    samples: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, found: Found) -> None:
        for name, term in {**found.terms, **found.numbers}.items():
            self.terms.setdefault(name, []).append(term)
        for name, values in found.samples.items():
            self.samples.setdefault(name, []).append(values)

    def values(self, weights: dict[str, float]) -> dict[str, float]:
        """Loss, means and medians; NaN for a median of nothing."""
        means = {name: float(Term.together(terms).mean) for name, terms in self.terms.items()}
        loss = sum(weight * means[name] for name, weight in weights.items() if name in means)
        medians = {}
        for name, pieces in self.samples.items():
            values = torch.cat(pieces)
            medians[f"{name}_median"] = float(values.quantile(0.5)) if len(values) else float("nan")
        return {"loss": loss, **means, **medians}


@dataclass
class Gallery:
    """Pictures and captions of tables, by what the towers make of them."""

    pictures: list[Float[Tensor, "b e"]] = field(default_factory=list)
    said: list[Float[Tensor, "n e"]] = field(default_factory=list)
    table: list[int] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    def add(self, pictures: Float[Tensor, "b e"], said: Float[Tensor, "n e"], told: Told) -> None:
        before = sum(len(some) for some in self.pictures)
        self.table += [before + table for table in told.table.tolist()]
        self.pictures.append(pictures)
        self.said.append(said)
        self.sentences += told.sentences

    def recall(self) -> dict[str, Term]:
        """Both ways, over all whole groups of ``AMONG`` tables, or over all tables where there are fewer."""
        if not self.said:
            return {}
        pictures, said, table = torch.cat(self.pictures), torch.cat(self.said), torch.tensor(self.table)
        size = min(AMONG, len(pictures))
        ways: list[tuple[Term, Term]] = []
        for first in range(0, len(pictures) - size + 1, size):
            index = ((table >= first) & (table < first + size)).nonzero()[:, 0]
            if len(index):
                fits = self._fits(index.tolist(), first, size).to(pictures.device)
                ways.append(recall_at_1(said[index.to(said.device)], pictures[first : first + size], fits))
        found, heard = zip(*ways, strict=True)
        return {"caption_to_table": Term.together(found), "table_to_caption": Term.together(heard)}

    def _fits(self, index: Sequence[int], first: int, size: int) -> Tensor:
        """Which of these captions fits which table: its own, and those of which the same is said."""
        of_table = torch.zeros(len(index), size, dtype=torch.bool)
        same = torch.tensor([[self.sentences[i] == self.sentences[j] for j in index] for i in index])
        for row, i in enumerate(index):
            of_table[row, self.table[i] - first] = True
        return (same.float() @ of_table.float()) > 0


def _answers(objectives: Objectives, telling: Telling, material: Material, asked: Questions) -> dict[str, Term]:
    """How many of the likeliest answers are right: all, and by kind."""
    backbone = objectives.backbone
    right, longest = backbone.read(asked.answers.ids[:, 1:]), asked.answers.ids.shape[1] - 1
    given = backbone.read(telling.answer(backbone, material.read(asked.words), asked.about, longest))
    hit = torch.tensor([a == b for a, b in zip(given, right, strict=True)], dtype=torch.float)
    kinds = [_kind(answer) for answer in right]
    by_kind = {kind: torch.tensor([each == kind for each in kinds]) for kind in sorted(set(kinds))}
    every = torch.ones_like(hit).bool()
    return {"answers": Term.over(hit, every)} | {f"answers_{k}": Term.over(hit, mask) for k, mask in by_kind.items()}


def _kind(answer: str) -> str:
    if answer in ("yes", "no"):
        return "yes_no"
    return "number" if answer in _NUMBERS or answer.isdigit() else "words"


_NUMBERS = frozenset(("none", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"))

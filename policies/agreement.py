"""Whether what a policy says agrees with what it does: with the chunk that came with the words, and with what followed.

Reviewers of VLA4CD (arXiv 2410.15885) found no such measure there.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from policies.intervals import Interval, wilson
from policies.narration import Motion, Narrator
from policies.policy import Plan


class Said(NamedTuple):
    """One decision: the sentence, the chunk that came with it in the embodiment's units, and the states before and
    after the time of that chunk, ``steps`` control steps apart; ``after`` is None where the episode was over sooner.
    """

    sentence: str
    chunk: Float[Tensor, "h a"]
    before: Float[Tensor, " s"]
    after: Float[Tensor, " s"] | None
    steps: int


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """In which share of ``decisions`` a policy's sentence was true, with Wilson's 95 % interval, and in which share it
    would be if the same sentences were dealt to the same decisions at random (``_by_chance``).

    ``chunk``: of the chunk that came with it; ``deed``: of what the robot did in the time of that chunk, over
    the ``outlasted`` decisions whose episodes went on so long. A policy that looks again sooner may change its mind.
    ``unheard`` sentences were none of the grammar's, and count as false. Decisions of one episode are much alike, so
    that intervals are narrower than they should be.
    """

    decisions: int
    outlasted: int
    unheard: int
    chunk: Interval
    chunk_by_chance: float
    deed: Interval
    deed_by_chance: float
    sentences: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: what is undefined, for want of decisions, is None."""
        undefined = {} if self.outlasted else {"deed": None, "deed_by_chance": None}
        return asdict(self) | undefined

    def __str__(self) -> str:
        def share(rate: Interval, chance: float) -> str:
            return f"{rate.value:.0%} [{rate.lo:.0%}, {rate.hi:.0%}], by chance {chance:.0%}"

        deed = f"; and with what it then did in {share(self.deed, self.deed_by_chance)}" if self.outlasted else ""
        return (
            f"what it says agrees with its actions in {share(self.chunk, self.chunk_by_chance)}, of {self.decisions} "
            f"decisions{deed}"
        )


def agreement(narrator: Narrator, said: Sequence[Said]) -> Agreement:
    """Over all decisions, of which there must be at least one."""
    if not said:
        raise ValueError("the agreement of no decisions is undefined")
    outlasted = [each for each in said if each.after is not None] if narrator.witnesses else []
    chunk, chunk_by_chance = _share(narrator, said, narrator.planned(torch.stack([each.chunk for each in said])))
    deed, deed_by_chance = wilson(0, 0), float("nan")
    if outlasted:
        deed, deed_by_chance = _share(narrator, outlasted, _deeds(narrator, outlasted))
    sentences = [each.sentence for each in said]
    counts = {text: sentences.count(text) for text in dict.fromkeys(sentences)}
    return Agreement(
        decisions=len(said),
        outlasted=len(outlasted),
        unheard=sum(count for text, count in counts.items() if narrator.heard(text) is None),
        chunk=chunk,
        chunk_by_chance=chunk_by_chance,
        deed=deed,
        deed_by_chance=deed_by_chance,
        sentences=dict(sorted(counts.items(), key=lambda item: -item[1])),
    )


def _deeds(narrator: Narrator, said: Sequence[Said]) -> Motion:
    before = torch.stack([each.before for each in said])
    after = torch.stack([each.after for each in said if each.after is not None])
    return narrator.done(before, after, torch.tensor([each.steps for each in said]))


def _share(narrator: Narrator, said: Sequence[Said], motion: Motion) -> tuple[Interval, float]:
    """How many of the sentences are true of their motions, and what share would be of each other's."""
    true, by_chance = 0, 0.0
    sentences = [each.sentence for each in said]
    for text in dict.fromkeys(sentences):
        claims = narrator.heard(text)
        if claims is None:
            continue
        borne_out = motion.bears_out(claims)
        own = torch.tensor([sentence == text for sentence in sentences], device=borne_out.device)
        true += int((borne_out & own).sum())
        by_chance += float(own.float().mean() * borne_out.float().mean())
    return wilson(true, len(said)), by_chance


class _Decision(NamedTuple):
    moment: int
    world: int
    sentence: str
    chunk: Float[Tensor, "h a"]


class Transcript:
    """What a policy says to n worlds, from the beginning of their episodes, and the states that they go through."""

    def __init__(self) -> None:
        self._moments: list[tuple[Float[Tensor, "n s"], Int[Tensor, " n"]]] = []
        self._decisions: list[_Decision] = []

    def see(self, state: Float[Tensor, "n s"], steps: Int[Tensor, " n"]) -> None:
        """How the worlds are now, after so many control steps."""
        self._moments.append((state.cpu().clone(), steps.cpu().clone()))

    def hear(self, plan: Plan, asked: Bool[Tensor, " n"]) -> None:
        """What was planned for the worlds that were ``asked`` about, in the state seen last."""
        chunks = plan.actions.cpu()
        for world in asked.nonzero()[:, 0].tolist():
            self._decisions.append(_Decision(len(self._moments) - 1, world, plan.answers[world], chunks[world]))

    def said(self, world: int) -> list[Said]:
        """Each decision of one world, with its first state after the time of the chunk, of those in which it decided
        again and the one seen last: whatever the others do.
        """
        own = [decision for decision in self._decisions if decision.world == world]
        seen = [*(decision.moment for decision in own), len(self._moments) - 1]
        return [self._with_what_followed(decision, seen[i + 1 :]) for i, decision in enumerate(own)]

    def _with_what_followed(self, decision: _Decision, later: Sequence[int]) -> Said:
        moment, world, sentence, chunk = decision
        state, begun = self._moments[moment]
        for after, steps in (self._moments[each] for each in later):
            taken = int(steps[world] - begun[world])
            if taken >= len(chunk):
                return Said(sentence, chunk, state[world], after[world], taken)
        return Said(sentence, chunk, state[world], None, 0)

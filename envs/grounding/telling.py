"""One sentence of what is on a table, and the same with one fact changed, so that it is false.

Things are listed, or said to stand so to one another, or to be open, closed, standing or lying; several claims are
joined to one sentence.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from envs.grounding.claims import Claim, Description, Observed, describe, falsified, related
from envs.grounding.speaking import WORDS
from envs.grounding.table import Table
from envs.grounding.vocabulary import RELATION_WORDS, Words
from envs.language import Split

_LISTED = Words(
    train=("there is {0}", "i see {0}", "here is {0}", "the table holds {0}", "on the table there is {0}", "{0}"),
    held_out=("the picture shows {0}", "one can make out {0}", "you find {0}"),
)
_JOINED = Words(train=("{0} and {1}", "{0}, and {1}", "{0} while {1}"), held_out=("{0}, whereas {1}",))
_RELATED = Words(
    train=("{what} is {relation} {than}", "{relation} {than} is {what}", "there is {what} {relation} {than}"),
    held_out=("{relation} {than} you find {what}", "{what} can be seen {relation} {than}"),
)
_IN_STATE = Words(train=("{what} is {state}", "there is {what}, {state}"), held_out=("{what} is found {state}",))
_LAST_IN_A_LIST = "{what} {relation} {than}"
_ALONE = "{what}"
_DEFINITE = 0.6
"""How often a thing that the words fit alone has the definite article, but for lists."""
_TRIES = 8


def indefinite(words: str) -> str:
    """With the indefinite article."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


@dataclass(frozen=True, kw_only=True)
class _Clause:
    """A claim and how it is put: the ``form`` around it, which of its relation's words, which definite articles."""

    claim: Claim
    form: str
    held_out: bool = False
    word: int = 0
    definite: tuple[bool, bool] = (False, False)

    @property
    def said(self) -> str:
        what, relation, than = self.claim
        state = None
        if "{state}" in self.form:
            state, what = what.state, what._replace(state=None)
        return self.form.format(
            what=_with_article(what, self.definite[0]),
            state=state,
            relation=None if relation is None else RELATION_WORDS[relation].all[self.word],
            than=None if than is None else _with_article(than, self.definite[1]),
        )


class _Plan(NamedTuple):
    """A sentence: its frame, its clauses, and whether the frame is held out."""

    frame: Callable[[list[str]], str]
    clauses: tuple[_Clause, ...]
    held_out: bool

    @property
    def said(self) -> str:
        return self.frame([clause.said for clause in self.clauses])

    @property
    def is_held_out(self) -> bool:
        return self.held_out or any(clause.held_out or clause.claim.held_out for clause in self.clauses)


class Teller:
    """Says what is on tables, "train" nothing that is held out, "held_out" something of it in every sentence."""

    def __init__(self, split: Split) -> None:
        self._split: Split = split

    def tell(self, table: Table, random: Random) -> tuple[str, str] | None:
        """A sentence that is true of a table, and one that differs in one fact and is false; None without either."""
        for _ in range(_TRIES if table.seen_things else 0):
            plan = self._joined(table, random) if random.random() < 0.65 else self._listed(table, random)
            if plan is None or len(plan.said.split()) > WORDS:
                continue
            wrong = self._wrong(plan, table, random)
            if wrong is None or len(wrong.said.split()) > WORDS:
                continue
            if self._split == "train" or (plan.is_held_out and wrong.is_held_out):
                return plan.said, wrong.said
        return None

    def _wrong(self, plan: _Plan, table: Table, random: Random) -> _Plan | None:
        """With one claim changed."""
        for at in random.sample(range(len(plan.clauses)), len(plan.clauses)):
            clause = plan.clauses[at]
            claim = falsified(clause.claim, table, self._split, random)
            if claim is not None:
                changed = replace(clause, claim=claim)
                return plan._replace(clauses=(*plan.clauses[:at], changed, *plan.clauses[at + 1 :]))
        return None

    def _listed(self, table: Table, random: Random) -> _Plan | None:
        """Two to four things, or the only one, the last one perhaps with how it stands to another."""
        seen = [i for i in table.present if table.seen[i] and table.colours[i] is not None]
        most = min(4, len(seen))
        pieces = random.sample(seen, random.randint(min(2, most), most))
        clauses = [self._alone(table, piece, random) for piece in pieces]
        if len({clause.claim for clause in clauses}) < len(clauses):
            return None
        if len(pieces) < 4 and random.random() < 0.3:
            last = related(table, self._split, random)
            if last is not None and last.piece not in pieces:
                clauses.append(self._clause(last, Words(train=(_LAST_IN_A_LIST,)), table, random))
        words, held_out = _LISTED.chosen(self._split, random)
        return _Plan(lambda said: words.format(listing(said)), tuple(clauses), held_out)

    def _joined(self, table: Table, random: Random) -> _Plan | None:
        """How a thing stands to another one, and, mostly, something about a third."""
        first = related(table, self._split, random)
        if first is None:
            return None
        clause = self._clause(first, _RELATED, table, random)
        second = self._second(table, first, random) if random.random() < 0.8 else None
        if second is None:
            return _Plan(lambda said: said[0], (clause,), False)
        words, held_out = _JOINED.chosen(self._split, random)
        clauses = (clause, second) if random.random() < 0.7 else (second, clause)
        return _Plan(lambda said: words.format(*said), clauses, held_out)

    def _second(self, table: Table, first: Observed, random: Random) -> _Clause | None:
        if random.random() < 0.5:
            stateful = [i for i in table.seen_things if table.open_states[i] or table.upright_states[i]]
            others = [i for i in stateful if i not in (first.piece, first.other)]
            return self._in_state(table, random.choice(others), random) if others else None
        other = related(table, self._split, random)
        if other is None or other.piece in (first.piece, first.other):
            return None
        return self._clause(other, _RELATED, table, random)

    def _alone(self, table: Table, piece: int, random: Random) -> _Clause:
        return _Clause(claim=Claim(describe(table, piece, self._split, random)), form=_ALONE)

    def _in_state(self, table: Table, piece: int, random: Random) -> _Clause:
        what = describe(table, piece, self._split, random)
        if what.state is None:
            what = what._replace(state=table.state_word(piece, self._split, random))
        form, held_out = _IN_STATE.chosen(self._split, random)
        definite = what._replace(state=None).fit(table).only(piece)
        return _Clause(claim=Claim(what), form=form, held_out=held_out, definite=(definite, False))

    def _clause(self, observed: Observed, forms: Words, table: Table, random: Random) -> _Clause:
        claim, piece, other = observed
        assert claim.relation is not None and claim.than is not None and other is not None
        form, held_out = forms.chosen(self._split, random)
        words = RELATION_WORDS[claim.relation]
        word, rare = words.chosen(self._split, random)
        definite = tuple(
            random.random() < _DEFINITE and each.fit(table).only(i)
            for each, i in ((claim.what, piece), (claim.than, other))
        )
        return _Clause(
            claim=claim,
            form=form,
            held_out=held_out | rare,
            word=words.all.index(word),
            definite=(definite[0] and not form.startswith("there"), definite[1]),
        )


def listing(said: Sequence[str]) -> str:
    """Several, with commas and "and"."""
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def _with_article(described: Description, definite: bool) -> str:
    return f"the {described.words}" if definite else indefinite(described.words)

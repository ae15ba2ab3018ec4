"""Questions about a table with one short answer each: what, which colour, how many, where, in what state, yes or no.

A question is asked only where the answer is sure, about things that some view shows, and names each by a phrase that
fits it alone. Answers are of few forms: "yes", "no", a colour, a number, a state, a side, "in the bin", "a red cube".
A question to be answered with no speaks of what is there: in another colour, of another kind, in another place.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

from envs.grounding.answers import NO, SIDE_ANSWERS, YES, place_of, thing_of
from envs.grounding.asking import CARRIED
from envs.grounding.claims import Claim, describe, falsified, other_colour, related, relation_of, untrue
from envs.grounding.grammar import Namer, Phrase
from envs.grounding.plurals import NUMBERS, plural
from envs.grounding.relations import RANKS, RELATIONS, ranked, side
from envs.grounding.speaking import WORDS, meant_of
from envs.grounding.table import Table, opposite_state
from envs.grounding.telling import indefinite
from envs.grounding.vocabulary import (
    COLOUR_WORDS,
    HELD_OUT_STATES,
    RANK_WORDS,
    RELATION_WORDS,
    Words,
    held_out_pair,
)
from envs.language import Split

_WHAT = Words(train=("what is {0}?", "which thing is {0}?"), held_out=("what can be seen {0}?",))
_FIRST = Words(train=("what is {0}?",), held_out=("tell me what {0} is",))
_COLOUR = Words(
    train=("what colour is {0}?", "which colour is {0}?", "what colour does {0} have?"),
    held_out=("what is the colour of {0}?", "how is {0} painted?"),
)
_IS_COLOUR = Words(train=("is {0} {1}?", "is the colour of {0} {1}?"), held_out=("is {0} painted {1}?",))
_COUNT = Words(
    train=("how many {0} are there?", "how many {0} do you see?"),
    held_out=("what is the number of {0}?", "count the {0}"),
)
_COUNT_ON_THE_TABLE = replace(_COUNT, train=(*_COUNT.train, "how many {0} are on the table?"))
"""Where none of what is counted is in or on something else."""
_WHERE = Words(train=("where is {0}?", "where do you see {0}?"), held_out=("where can {0} be found?",))
_SIDE = Words(
    train=("on which side of {1} is {0}?", "on what side of {1} is {0}?"), held_out=("which side of {1} is {0} on?",)
)
_IS_IN_STATE = Words(train=("is {0} {1}?",), held_out=("would you say that {0} is {1}?",))
_STATE = Words(train=("is {0} {1} or {2}?",), held_out=("{1} or {2}: how is {0}?",))
_EXISTS = Words(train=("is there {0}?", "do you see {0}?"), held_out=("can {0} be seen?", "can you make out {0}?"))
_RELATED = Words(train=("is {0} {1} {2}?",), held_out=("can {0} be seen {1} {2}?",))
_ZEROS, _ONES = 0.12, 0.5
"""How often what is not there is counted, and what is there once, of all the times that it might be."""
_BEARING = 0.4
_YES = 0.47
"""How often "yes" is tried for: a false claim is not always found."""
_SHUT, _UPRIGHT = 0.5, 0.15
"""How often what is shut, and what stands upright, is asked about: of most things both are so, and a question that has
one answer nine times in ten can be answered without looking.
"""
_ON_THE_TABLE = 0.3
"""The same for the place of what stands on the table alone."""
_TRIES = 12


class _Question(NamedTuple):
    words: str
    answer: str
    held_out: bool


_Form = Callable[[Table, Random], _Question | None]


class Questioner:
    """Asks about tables: "train" says nothing that is held out, nor makes an answer of it; "held_out" something of it
    with every question.
    """

    def __init__(self, split: Split) -> None:
        self._split: Split = split
        self._namer = Namer(split)
        shares: dict[_Form, int] = {
            self._what: 3,
            self._first: 1,
            self._colour: 3,
            self._count: 2,
            self._where: 3,
            self._side: 1,
            self._state: 2,
            self._is_in_state: 2,
            self._is_colour: 2,
            self._exists: 3,
            self._is_related: 4,
        }
        self._forms, self._weights = list(shares), list(shares.values())

    def ask(self, table: Table, count: int, random: Random) -> list[tuple[str, str]]:
        """Up to ``count`` different questions, and their answers."""
        asked: dict[str, str] = {}
        for _ in range(count * _TRIES if table.seen_things else 0):
            if len(asked) == count:
                break
            (form,) = random.choices(self._forms, self._weights)
            found = form(table, random)
            if found is None or found.held_out != (self._split == "held_out"):
                continue
            if len(found.words.split()) <= WORDS:
                asked.setdefault(found.words, found.answer)
        return list(asked.items())

    def _what(self, table: Table, random: Random) -> _Question | None:
        """The only thing that stands so to another one."""
        pair = self._pair(table, random)
        relation = None if pair is None else relation_of(table, *pair, random)
        if pair is None or relation is None:
            return None
        piece, other = pair
        there, holds = table.bodies[other], RELATIONS[relation]
        if any(i not in pair and holds(table.bodies[i], there) is not False for i in table.things):
            return None
        anchor = self._namer.plain(table, other, random)
        if anchor is None:
            return None
        words, rare = RELATION_WORDS[relation].chosen(self._split, random)
        answer, withheld = thing_of(table, piece)
        return self._asked(_WHAT, (f"{words} {anchor.words}",), answer, rare | withheld | anchor.held_out, random)

    def _first(self, table: Table, random: Random) -> _Question | None:
        """The first of all things in a row."""
        rank = random.choice(tuple(RANKS))
        first = ranked(rank, [table.bodies[i] for i in table.things])
        if first is None or not table.seen[table.things[first]]:
            return None
        words, rare = RANK_WORDS[rank].chosen(self._split, random)
        answer, withheld = thing_of(table, table.things[first])
        return self._asked(_FIRST, (f"the {words.format('thing')}",), answer, rare | withheld, random)

    def _colour(self, table: Table, random: Random) -> _Question | None:
        piece = self._one_of(table, table.colours, random)
        colour = None if piece is None else table.colours[piece]
        phrase = None if piece is None else self._namer.phrase(table.without_look(piece), piece, random)
        if piece is None or colour is None or phrase is None:
            return None
        held_out = phrase.held_out | held_out_pair(colour, table.pieces[piece].kind)
        return self._asked(_COLOUR, (phrase.words,), colour, held_out, random)

    def _is_colour(self, table: Table, random: Random) -> _Question | None:
        piece = self._one_of(table, table.colours, random)
        own = None if piece is None else table.colours[piece]
        if piece is None or own is None:
            return None
        yes = random.random() < _YES
        colour = own if yes else other_colour(own, table, random)
        shade, rare = COLOUR_WORDS[colour].chosen(self._split, random)
        if table.has_colour(piece, shade) is not yes:
            return None
        phrase = self._namer.phrase(table.without_look(piece), piece, random)
        if phrase is None:
            return None
        held_out = rare | phrase.held_out | held_out_pair(colour, table.pieces[piece].kind)
        return self._asked(_IS_COLOUR, (phrase.words, shade), YES if yes else NO, held_out, random)

    def _count(self, table: Table, random: Random) -> _Question | None:
        """How many of a kind, perhaps of a colour; of one that is not there in a share ``_ZEROS``."""
        piece = self._one_of(table, table.colours, random)
        if piece is None:
            return None
        what = describe(table, piece, self._split, random)._replace(state=None)
        if random.random() < 0.5:
            what = what._replace(colour=None, shade=None)
        if random.random() < _ZEROS:
            changed = falsified(Claim(what), table, self._split, random)
            if changed is None:
                return None
            what = changed.what
        counted = what.fit(table)
        doubtful = counted.perhaps or any(not table.seen[i] or table.pieces[i].kind != what.kind for i in counted.sure)
        if doubtful or len(counted.sure) >= len(NUMBERS) or (len(counted.sure) == 1 and random.random() > _ONES):
            return None
        several = what._replace(noun=plural(what.noun)).words
        borne = {i for i, _ in table.borne}.intersection(counted.sure)
        form = _COUNT if borne else _COUNT_ON_THE_TABLE
        return self._asked(form, (several,), NUMBERS[len(counted.sure)], what.held_out, random)

    def _where(self, table: Table, random: Random) -> _Question | None:
        """What a thing is in or on, as a rule; the table where that is nothing else."""
        pieces = [piece for piece, _ in table.borne]
        if random.random() < _ON_THE_TABLE:
            pieces = [i for i in table.seen_things if table.pieces[i].kind in CARRIED]
        if not pieces:
            return None
        piece = random.choice(pieces)
        found = place_of(table, piece)
        phrase = None if found is None else self._namer.plain(table, piece, random)
        if found is None or phrase is None:
            return None
        answer, withheld = found
        return self._asked(_WHERE, (phrase.words,), answer, phrase.held_out | withheld, random)

    def _side(self, table: Table, random: Random) -> _Question | None:
        pair = self._pair(table, random, bearing=0.0)
        name = None if pair is None else side(*(table.bodies[i] for i in pair))
        phrases = None if pair is None or name is None else self._both(table, pair, random)
        if name is None or phrases is None:
            return None
        return self._asked(_SIDE, [each.words for each in phrases], SIDE_ANSWERS[name], _any(phrases), random)

    def _state(self, table: Table, random: Random) -> _Question | None:
        """Which of two states a thing is in."""
        named = self._with_state(table, random)
        if named is None:
            return None
        phrase, piece = named
        state = table.state_word(piece, "train", random)
        assert state is not None
        other = opposite_state(state, "train", random)
        words = (phrase.words, *random.sample((state, other), 2))
        return self._asked(_STATE, words, state, phrase.held_out, random)

    def _is_in_state(self, table: Table, random: Random) -> _Question | None:
        named = self._with_state(table, random)
        if named is None:
            return None
        phrase, piece = named
        yes = random.random() < _YES
        said = table.state_word(piece, self._split, random)
        assert said is not None
        said = said if yes else opposite_state(said, self._split, random)
        held_out = phrase.held_out | (said in HELD_OUT_STATES)
        return self._asked(_IS_IN_STATE, (phrase.words, said), YES if yes else NO, held_out, random)

    def _exists(self, table: Table, random: Random) -> _Question | None:
        """Is there such a thing, perhaps one that stands so to another?"""
        observed = related(table, self._split, random) if random.random() < 0.4 else None
        if observed is None:
            piece = self._one_of(table, table.colours, random)
            if piece is None:
                return None
            claim = Claim(describe(table, piece, self._split, random))
        else:
            claim = observed.claim
        yes = random.random() < _YES
        said = claim if yes else falsified(claim, table, self._split, random)
        if said is None:
            return None
        words, rare = indefinite(said.what.words), False
        if said.relation is not None and said.than is not None:
            relation, rare = RELATION_WORDS[said.relation].chosen(self._split, random)
            words = f"{words} {relation} {indefinite(said.than.words)}"
        return self._asked(_EXISTS, (words,), YES if yes else NO, rare | said.held_out, random)

    def _is_related(self, table: Table, random: Random) -> _Question | None:
        """Does a thing stand so to another one?"""
        pair = self._pair(table, random)
        relation = None if pair is None else relation_of(table, *pair, random)
        if pair is None or relation is None:
            return None
        yes = random.random() < _YES
        said = (*pair, relation) if yes else untrue(table, *pair, relation, random)
        phrases = None if said is None else self._both(table, said[:2], random)
        if said is None or phrases is None:
            return None
        words, rare = RELATION_WORDS[said[2]].chosen(self._split, random)
        first, last = phrases
        return self._asked(_RELATED, (first.words, words, last.words), YES if yes else NO, rare | _any(phrases), random)

    def _pair(self, table: Table, random: Random, bearing: float = _BEARING) -> tuple[int, int] | None:
        """Two seen things, in a share ``bearing`` one that is in or on the other where there is one."""
        if table.borne and random.random() < bearing:
            return random.choice(list(table.borne))
        if len(table.seen_things) < 2:
            return None
        piece, other = random.sample(table.seen_things, 2)
        return piece, other

    def _both(self, table: Table, pair: Sequence[int], random: Random) -> tuple[Phrase, Phrase] | None:
        first = self._namer.plain(table, pair[0], random)
        last = None if first is None else self._namer.plain(table, pair[1], random)
        return None if first is None or last is None else (first, last)

    def _one_of(self, table: Table, known: Sequence[object], random: Random) -> int | None:
        """A seen piece of which something is ``known``: not None, and not 0."""
        pieces = [i for i in table.present if table.seen[i] and known[i]]
        return meant_of(table, pieces, random) if pieces else None

    def _with_state(self, table: Table, random: Random) -> tuple[Phrase, int] | None:
        """A thing that is in one of two states, and a phrase for it that does not say in which."""
        piece = self._one_of(table, table.open_states, random)
        if piece is None or random.random() < 0.3:
            piece = self._one_of(table, table.upright_states, random)
        if piece is None or random.random() > self._share_of_state(table, piece):
            return None
        phrase = self._namer.phrase(table.without_look(piece), piece, random)
        return None if phrase is None else (phrase, piece)

    @staticmethod
    def _share_of_state(table: Table, piece: int) -> float:
        """How often the state that a piece is in is asked about."""
        if table.open_states[piece]:
            return _SHUT if table.open_states[piece] < 0 else 1.0
        return _UPRIGHT if table.upright_states[piece] > 0 else 1.0

    def _asked(self, form: Words, words: Sequence[str], answer: str, held_out: bool, random: Random) -> _Question:
        template, framed = form.chosen(self._split, random)
        if self._split == "held_out" and not held_out and not framed:
            template, framed = random.choice(form.held_out), True
        return _Question(template.format(*words), answer, held_out | framed)


def _any(phrases: Sequence[Phrase]) -> bool:
    return any(phrase.held_out for phrase in phrases)

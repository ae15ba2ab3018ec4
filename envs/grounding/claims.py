"""Claims about a table, true, false or doubtful: that things of a class are there, or stand so to things of another.

A false claim is made from a true one by changing one fact of it, so that both speak of what is there.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from envs.grounding.relations import OPPOSITES, RELATIONS, SIDES
from envs.grounding.table import Fit, Table, opposite_state
from envs.grounding.vocabulary import COLOUR_WORDS, HELD_OUT_STATES, NOUNS, OWNERS, held_out_pair
from envs.language import Split
from envs.props.colours import COLOUR_NAMES

_SHADED = 0.88
"""How often a thing's colour is said."""
_WITH_STATE = 0.35
_BEARING = 0.4
"""How often a relation is that of a thing in or on another one, where there is any."""
_NEAR_AT_HAND = 0.75
"""How often a wrong colour or noun is that of another thing of the table."""
_MORE_TRIES = 6
_KINDS = tuple(kind for kind in NOUNS if kind not in OWNERS)


class Description(NamedTuple):
    """Words for a class of things: a ``noun`` for their ``kind``, perhaps a ``shade`` of their ``colour``, a state."""

    kind: str
    noun: str
    colour: str | None = None
    shade: str | None = None
    state: str | None = None

    @property
    def words(self) -> str:
        return " ".join(word for word in (self.state, self.shade, self.noun) if word is not None)

    @property
    def held_out(self) -> bool:
        """Must training not say it?"""
        if self.noun in NOUNS[self.kind].held_out or self.state in HELD_OUT_STATES:
            return True
        if self.colour is None:
            return False
        return self.shade in COLOUR_WORDS[self.colour].held_out or held_out_pair(self.colour, self.kind)

    def fit(self, table: Table) -> Fit:
        return table.fits(self.noun, self.shade, self.state)


class Claim(NamedTuple):
    """That there is one of ``what``; with a ``relation`` of ``RELATIONS``, one that stands so to one of ``than``."""

    what: Description
    relation: str | None = None
    than: Description | None = None

    @property
    def held_out(self) -> bool:
        """Do its descriptions say what training must not?"""
        return self.what.held_out or (self.than is not None and self.than.held_out)

    def holds(self, table: Table) -> bool | None:
        """Is it surely so, or surely not, whatever a listener takes the words for?"""
        what = self.what.fit(table)
        if self.relation is None or self.than is None:
            return True if what.sure else (None if what.perhaps else False)
        than = self.than.fit(table)
        related, doubtful = RELATIONS[self.relation], False
        for i in (*what.sure, *what.perhaps):
            for j in (*than.sure, *than.perhaps):
                if table.pieces[i].slot == table.pieces[j].slot:
                    continue
                found = related(table.bodies[i], table.bodies[j])
                if found and i in what.sure and j in than.sure:
                    return True
                doubtful |= found is not False
        return None if doubtful else False


class Observed(NamedTuple):
    """A true claim, and the seen pieces that make it so."""

    claim: Claim
    piece: int
    other: int | None = None


def describe(table: Table, piece: int, split: Split, random: Random) -> Description:
    """Words that a piece is described with, among others perhaps."""
    kind, colour = table.pieces[piece].kind, table.colours[piece]
    noun, _ = NOUNS[kind].chosen(split, random)
    state = table.state_word(piece, split, random) if random.random() < _WITH_STATE else None
    if colour is None or random.random() > _SHADED or (split == "train" and held_out_pair(colour, kind)):
        return Description(kind, noun, state=state)
    shade, _ = COLOUR_WORDS[colour].chosen(split, random)
    return Description(kind, noun, colour, shade, state)


def related(table: Table, split: Split, random: Random) -> Observed | None:
    """How some seen thing stands to another one; None if no relation holds of the two that were drawn."""
    if len(table.seen_things) < 2:
        return None
    if table.borne and random.random() < _BEARING:
        piece, other = random.choice(list(table.borne))
    else:
        piece, other = random.sample(table.seen_things, 2)
    relation = relation_of(table, piece, other, random)
    if relation is None:
        return None
    what, than = (describe(table, i, split, random) for i in (piece, other))
    return Observed(Claim(what, relation, than), piece, other)


def relation_of(table: Table, piece: int, other: int, random: Random) -> str | None:
    """A relation in which a thing surely stands to another one: in or on it before any other, next to it often."""
    if (piece, other) in table.borne:
        return table.borne[piece, other]
    here, there = table.bodies[piece], table.bodies[other]
    sides = random.sample(SIDES, len(SIDES))
    names = ("next to", *sides) if random.random() < 0.6 else (*sides, "next to")
    return next((name for name in names if RELATIONS[name](here, there)), None)


def untrue(table: Table, piece: int, other: int, relation: str, random: Random) -> tuple[int, int, str] | None:
    """Of two things that stand so, one or the other or the side changed, so that it is surely not so; None if no such
    change was found.
    """
    if relation in SIDES and random.random() < 0.4:
        return piece, other, OPPOSITES[relation]
    pairs = [(i, other) for i in table.seen_things] + [(piece, i) for i in table.seen_things]
    for i, j in random.sample(pairs, len(pairs)):
        if i != j and RELATIONS[relation](table.bodies[i], table.bodies[j]) is False:
            return i, j, relation
    return None


def falsified(claim: Claim, table: Table, split: Split, random: Random) -> Claim | None:
    """The claim with one fact changed, so that it is surely false; None if no change makes it so."""
    for change in random.sample(_CHANGES, len(_CHANGES)) + random.choices(_CHANGES, k=_MORE_TRIES):
        changed = change(claim, table, split, random)
        if changed is None or (split == "train" and changed.held_out):
            continue
        if changed.holds(table) is False:
            return changed
    return None


def _recoloured(claim: Claim, table: Table, split: Split, random: Random) -> Claim | None:
    return _with_one_changed(claim, lambda each: _in_other_colour(each, table, split, random), random)


def _renamed(claim: Claim, table: Table, split: Split, random: Random) -> Claim | None:
    return _with_one_changed(claim, lambda each: _of_other_kind(each, table, split, random), random)


def _restated(claim: Claim, table: Table, split: Split, random: Random) -> Claim | None:
    def changed(each: Description) -> Description | None:
        return each if each.state is None else each._replace(state=opposite_state(each.state, split, random))

    return _with_one_changed(claim, changed, random)


def _turned(claim: Claim, table: Table, split: Split, random: Random) -> Claim | None:
    """With another relation, mostly the opposite."""
    if claim.relation is None:
        return None
    name = OPPOSITES.get(claim.relation)
    if name is None or random.random() < 0.25:
        name = random.choice([each for each in _BESIDE if each != claim.relation])
    return claim._replace(relation=name)


def _exchanged(claim: Claim, table: Table, split: Split, random: Random) -> Claim | None:
    """With the two things in each other's place."""
    return None if claim.than is None else claim._replace(what=claim.than, than=claim.what)


_BESIDE = (*SIDES, "next to")
_CHANGES = (_recoloured, _renamed, _restated, _turned, _exchanged)


def _with_one_changed(
    claim: Claim, change: Callable[[Description], Description | None], random: Random
) -> Claim | None:
    """With another description of the one or of the other; None where that is not changed."""
    if claim.than is not None and random.random() < 0.5:
        changed = claim._replace(than=change(claim.than))
        return None if changed.than is None or changed == claim else changed
    what = change(claim.what)
    return None if what is None or what == claim.what else claim._replace(what=what)


def _in_other_colour(described: Description, table: Table, split: Split, random: Random) -> Description | None:
    if described.colour is None:
        return None
    colour = other_colour(described.colour, table, random)
    shade, _ = COLOUR_WORDS[colour].chosen(split, random)
    return described._replace(colour=colour, shade=shade)


def _of_other_kind(described: Description, table: Table, split: Split, random: Random) -> Description | None:
    if described.state is not None:
        return None
    here = {table.pieces[i].kind for i in table.things} if random.random() < _NEAR_AT_HAND else _KINDS
    kinds = sorted({*here} - {described.kind})
    if not kinds:
        return None
    kind = random.choice(kinds)
    noun, _ = NOUNS[kind].chosen(split, random)
    return described._replace(kind=kind, noun=noun)


def other_colour(colour: str, table: Table, random: Random) -> str:
    """Another colour, mostly one that something on the table has."""
    here = {each for i in table.things if (each := table.colours[i]) is not None} - {colour}
    if here and random.random() < _NEAR_AT_HAND:
        return random.choice(sorted(here))
    return random.choice([each for each in COLOUR_NAMES if each != colour])

"""Phrases that fit exactly one thing of a table: by kind, colour, state, place, size, or as a part of another thing.

A phrase is tried and kept only if it surely fits the thing that is meant and does not even perhaps fit another one: the
things that would be confused are there, and are told apart. A relation is rather said of things that nothing shorter
would tell apart.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple

from envs.grounding.relations import RELATIONS, Body, between, by_distance, by_size, middle, ranked
from envs.grounding.table import THINGS_AT_LARGE, Fit, Table
from envs.grounding.vocabulary import (
    COLOUR_WORDS,
    HELD_OUT_STATES,
    NOUNS,
    OWNERS,
    RANK_WORDS,
    RELATION_WORDS,
    Words,
    held_out_pair,
)
from envs.language import Split

_SECOND: Mapping[str, Words] = {
    "leftmost": Words(train=("second {0} from the left",)),
    "rightmost": Words(train=(), held_out=("second {0} from the right",)),
    "nearest": Words(train=("second nearest {0}",)),
    "farthest": Words(train=(), held_out=("second farthest {0}",)),
}
_MIDDLE = {1: Words(train=("middle {0} from left to right",)), 0: Words(train=("middle {0} from near to far",))}
_CLOSEST = Words(train=("{0} closest to",), held_out=("{0} least far from",))
_FARTHEST = Words(train=("{0} farthest from",), held_out=("{0} most distant from",))
_SIZES = {
    True: Words(train=("smallest {0}",), held_out=("tiniest {0}",)),
    False: Words(train=("biggest {0}",), held_out=("largest {0}",)),
}
"""Whether the smallest is meant."""
_BETWEEN = Words(train=(), held_out=("between",))
"""Withheld from training altogether, as second from the right is."""
_HELD_OUT_LARGE = ("object",)
_TRIES = 6
_REDUNDANT = 0.2
"""How often a place is said of what a shorter phrase would have named."""


class Phrase(NamedTuple):
    """Words, beginning with "the", that fit one piece; ``held_out`` if training must not say them."""

    words: str
    piece: int
    held_out: bool


class _Named(NamedTuple):
    """Words for a class of things, and which those are."""

    words: str
    fit: Fit
    held_out: bool


_Form = Callable[[Table, int, Random], Phrase | None]
"""Words that fit the piece and nothing else; None if those that were drawn do not."""


class Namer:
    """Finds phrases for the pieces of tables. ``split`` "train" says nothing that is held out."""

    def __init__(self, split: Split) -> None:
        self._split: Split = split
        self._forms: Mapping[str, _Form] = {
            "plain": self._plain,
            "part": self._part,
            "related": self._related,
            "first": self._first,
            "close": self._close,
            "between": self._between,
        }

    def phrase(self, table: Table, piece: int, random: Random) -> Phrase | None:
        """A phrase that fits ``piece`` and nothing else on the table; None if none was found in some tries."""
        forms = _PART_FORMS if table.pieces[piece].part else _THING_FORMS
        for form in random.sample(forms, len(forms)):
            found = self._tried(self._forms[form], table, piece, random)
            if found is not None:
                return found
        return None

    def plain(self, table: Table, piece: int, random: Random) -> Phrase | None:
        """Such a phrase without places or owners."""
        return self._tried(self._plain, table, piece, random)

    def _tried(self, form: _Form, table: Table, piece: int, random: Random) -> Phrase | None:
        for _ in range(_TRIES):
            found = form(table, piece, random)
            if found is not None and not (found.held_out and self._split == "train"):
                return found
        return None

    def _plain(self, table: Table, piece: int, random: Random) -> Phrase | None:
        named = self._named(table, piece, random, at_large=0.15)
        return Phrase(f"the {named.words}", piece, named.held_out) if named.fit.only(piece) else None

    def _part(self, table: Table, piece: int, random: Random) -> Phrase | None:
        """The part of a thing that a phrase of its own tells apart."""
        kind, slot = table.pieces[piece].kind, table.pieces[piece].slot
        noun, held_out = NOUNS[kind].chosen(self._split, random)
        if not table.parts_called(noun, slot).only(piece):
            return None
        whole = next(i for i in table.present if table.pieces[i].slot == slot and not table.pieces[i].part)
        assert table.pieces[whole].kind == OWNERS[kind]
        owner = self._plain(table, whole, random) if random.random() < 0.6 else self._first(table, whole, random)
        if owner is None:
            return None
        short = owner.words.count(" ") < 3 and random.random() < 0.5
        words = f"{owner.words}'s {noun}" if short else f"the {noun} of {owner.words}"
        return Phrase(words, piece, held_out or owner.held_out)

    def _related(self, table: Table, piece: int, random: Random) -> Phrase | None:
        """By how it stands to another thing."""
        anchor = self._anchor(table, piece, random)
        named = self._class(table, piece, random)
        if anchor is None or named is None:
            return None
        here, there = table.bodies[piece], table.bodies[anchor.piece]
        true = [name for name, holds in RELATIONS.items() if holds(here, there)]
        if not true:
            return None
        name = next((each for each in ("inside", "on top") if each in true), random.choice(true))
        fit = table.narrowed(
            named.fit, lambda i: RELATIONS[name](table.bodies[i], there) if i != anchor.piece else False
        )
        words, held_out = RELATION_WORDS[name].chosen(self._split, random)
        held_out |= named.held_out | anchor.held_out
        return self._made(f"{named.words} {words} {anchor.words}", fit, piece, held_out)

    def _between(self, table: Table, piece: int, random: Random) -> Phrase | None:
        if self._split == "train":
            return None
        one, other = (self._anchor(table, piece, random) for _ in range(2))
        named = self._class(table, piece, random)
        if one is None or other is None or named is None or one.piece == other.piece:
            return None
        ends = table.bodies[one.piece], table.bodies[other.piece]
        taken = (one.piece, other.piece)
        fit = table.narrowed(named.fit, lambda i: between(table.bodies[i], *ends) if i not in taken else False)
        return self._made(f"{named.words} {_BETWEEN.held_out[0]} {one.words} and {other.words}", fit, piece, True)

    def _close(self, table: Table, piece: int, random: Random) -> Phrase | None:
        """As the closest of its class to another thing, or the farthest from it."""
        anchor, named = self._anchor(table, piece, random), self._class(table, piece, random)
        if anchor is None or named is None:
            return None
        farthest = random.random() < 0.4
        others = Fit(named.fit.sure - {anchor.piece}, named.fit.perhaps - {anchor.piece})
        there = table.bodies[anchor.piece]
        words, held_out = (_FARTHEST if farthest else _CLOSEST).chosen(self._split, random)
        best = _best(table, others, lambda bodies: by_distance(bodies, there, farthest))
        said = f"{words.format(named.words)} {anchor.words}"
        return self._said(said, best, piece, named.held_out | anchor.held_out | held_out)

    def _first(self, table: Table, piece: int, random: Random) -> Phrase | None:
        """As the first, second or middle of its class in a row, or by its size."""
        named = self._class(table, piece, random)
        if named is None:
            return None
        rank, drawn = random.choice(tuple(RANK_WORDS)), random.random()
        if drawn < 0.6:
            words, best = RANK_WORDS[rank], _best(table, named.fit, lambda bodies: ranked(rank, bodies))
        elif drawn < 0.75:
            words, best = _SECOND[rank], _best(table, named.fit, lambda bodies: ranked(rank, bodies, 1), least=3)
        elif drawn < 0.85:
            axis = random.choice((0, 1))
            words, best = _MIDDLE[axis], _best(table, named.fit, lambda bodies: middle(bodies, axis))
        else:
            smallest = random.random() < 0.5
            words, best = _SIZES[smallest], _best(table, named.fit, lambda bodies: by_size(bodies, smallest))
        if best != piece or (self._split == "train" and not words.train):
            return None
        said, held_out = words.chosen(self._split, random)
        return self._said(said.format(named.words), best, piece, named.held_out | held_out)

    def _named(self, table: Table, piece: int, random: Random, at_large: float) -> _Named:
        """Words for the class that a piece is one of: its noun, or that of any thing, perhaps its colour and state."""
        kind, colour = table.pieces[piece].kind, table.colours[piece]
        large = colour is not None and not table.pieces[piece].part and random.random() < at_large
        if large:
            noun = THINGS_AT_LARGE[0] if self._split == "train" else random.choice(THINGS_AT_LARGE)
            held_out = noun in _HELD_OUT_LARGE
        else:
            noun, held_out = NOUNS[kind].chosen(self._split, random)
        state = table.state_word(piece, self._split, random) if random.random() < 0.35 else None
        words, shade = noun, None
        if colour is not None and (large or random.random() < 0.65):
            shade, rare = COLOUR_WORDS[colour].chosen(self._split, random)
            words, held_out = f"{shade} {noun}", held_out | rare | (not large and held_out_pair(colour, kind))
        if state is not None:
            words, held_out = f"{state} {words}", held_out | (state in HELD_OUT_STATES)
        return _Named(words, table.fits(noun, shade, state), held_out)

    def _class(self, table: Table, piece: int, random: Random) -> _Named | None:
        """The same as a class of several, as a rule; None where parts or doubtful members are in it."""
        if table.pieces[piece].part:
            return None
        named = self._named(table, piece, random, at_large=0.1)
        if piece not in named.fit.sure or (named.fit.only(piece) and random.random() > _REDUNDANT):
            return None
        return named

    def _anchor(self, table: Table, piece: int, random: Random) -> Phrase | None:
        """Another thing in plain words."""
        slot = table.pieces[piece].slot
        others = [i for i in table.present if not table.pieces[i].part and table.pieces[i].slot != slot]
        if not others:
            return None
        found = self._plain(table, random.choice(others), random)
        return None if found is not None and " thing" in found.words else found

    def _made(self, words: str, fit: Fit, piece: int, held_out: bool) -> Phrase | None:
        return Phrase(f"the {words}", piece, held_out) if fit.only(piece) else None

    def _said(self, words: str, best: int | None, piece: int, held_out: bool) -> Phrase | None:
        return Phrase(f"the {words}", piece, held_out) if best == piece else None


_THING_FORMS = ("plain", "plain", "plain", "related", "related", "first", "first", "close", "between")
_PART_FORMS = ("plain", "part", "part")


def _best(table: Table, fit: Fit, choose: Callable[[list[Body]], int | None], least: int = 2) -> int | None:
    """Which of a class ``choose`` names; None if it is doubtful who belongs to it, or they are too few."""
    members = sorted(fit.sure)
    if fit.perhaps or len(members) < least:
        return None
    chosen = choose([table.bodies[i] for i in members])
    return None if chosen is None else members[chosen]

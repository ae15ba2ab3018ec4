"""Sentences about a table, each about one thing that some view shows."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from envs.grounding import asking
from envs.grounding.grammar import Namer, Phrase
from envs.grounding.table import Table
from envs.grounding.vocabulary import Words
from envs.language import Split

RECEIVED = 0.25
"""How often something is brought to a receiver, where the two are there; else one thing is asked for alone."""
ACTED_ON = ("cube", "ball", "bin", "mat", "drawer knob", "door handle", "button", "slider", "peg", "socket")
"""Kinds that are spoken of more often than others: what a robot takes, presses and fills."""
_MORE, _BY_KIND = 2.5, 0.7
WORDS = 32
"""No sentence, question or description has more; some perturbed instructions of the tasks have as many."""
_TRIES = 16


def meant_of(table: Table, pieces: Sequence[int], random: Random) -> int:
    """One of the pieces; mostly by its kind, however many there are of it, and rather one that is acted on."""
    if random.random() < _BY_KIND:
        kinds = sorted({table.pieces[i].kind for i in pieces})
        (kind,) = random.choices(kinds, [_MORE if kind in ACTED_ON else 1.0 for kind in kinds])
        pieces = [i for i in pieces if table.pieces[i].kind == kind]
    return random.choice(pieces)


class Said(NamedTuple):
    """A sentence, the piece that it is about, and the one to or onto which something is to be brought, if any."""

    piece: int
    receiver: int | None
    sentence: str


class Speaker:
    """Says things of tables, "train" nothing that is held out, "held_out" something of it in every sentence."""

    def __init__(self, split: Split) -> None:
        self._split: Split = split
        self._namer = Namer(split)

    def say(self, table: Table, count: int, random: Random) -> list[Said]:
        """Up to ``count`` different sentences."""
        meant = [i for i in table.present if table.seen[i]]
        said: dict[str, Said] = {}
        for _ in range(count * _TRIES if meant else 0):
            if len(said) == count:
                break
            piece = meant_of(table, meant, random)
            phrase = self._namer.phrase(table, piece, random)
            found = None if phrase is None else self._around(table, phrase, random)
            if found is not None and len(found.sentence.split()) <= WORDS:
                said.setdefault(found.sentence, found)
        return list(said.values())

    def _around(self, table: Table, phrase: Phrase, random: Random) -> Said | None:
        kind = table.pieces[phrase.piece].kind
        if random.random() < RECEIVED:
            said = self._with_receiver(table, phrase, random)
            if said is not None:
                return said
        held_out = self._frame(random)
        if self._split == "held_out" and not (held_out or phrase.held_out):
            return None
        sentence = asking.order(kind, table.open_states[phrase.piece], phrase.words, held_out, random)
        return Said(piece=phrase.piece, receiver=None, sentence=sentence)

    def _with_receiver(self, table: Table, phrase: Phrase, random: Random) -> Said | None:
        """An order to bring a thing somewhere: it is about the thing, unless it asks for the place. None if nothing on
        the table goes with what ``phrase`` names, or has no plain name.
        """
        partners = [
            (other, asks, words)
            for other in table.present
            for asks in (False, True)
            if (words := _order(table, *((other, phrase.piece) if asks else (phrase.piece, other)))) is not None
        ]
        if not partners:
            return None
        other, asks, words = random.choice(partners)
        second = self._namer.plain(table, other, random)
        if second is None:
            return None
        held_out = self._frame(random)
        if self._split == "held_out" and not (held_out or phrase.held_out or second.held_out):
            return None
        first, last = (second, phrase) if asks else (phrase, second)
        deed = random.choice(words.held_out if held_out else words.train).format(first.words, last.words)
        if not asks:
            sentence = asking.wrapped(deed, held_out, random)
            return Said(piece=phrase.piece, receiver=other, sentence=sentence)
        where = asking.WHERE_TO
        sentence = random.choice(where.held_out if held_out else where.train).format(deed)
        return Said(piece=phrase.piece, receiver=phrase.piece, sentence=sentence)

    def _frame(self, random: Random) -> bool:
        """Is what is said around a phrase held out?"""
        return self._split == "held_out" and random.random() < 0.5


def _order(table: Table, piece: int, receiver: int) -> Words | None:
    """How one is brought to the other; None where it does not belong there, is of the same thing, or that is shut."""
    pieces = table.pieces
    if pieces[piece].slot == pieces[receiver].slot or table.open_states[receiver] < 0:
        return None
    return asking.put(pieces[piece].kind, pieces[receiver].kind)

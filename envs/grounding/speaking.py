"""Sentences about a table, each about one thing that some view shows."""

from collections.abc import Sequence
from random import Random

from envs.grounding import asking
from envs.grounding.grammar import Namer, Phrase
from envs.grounding.table import Table
from envs.language import Split

RECEIVED = 0.12
"""In what share of the sentences something is brought to a receiver."""
WORDS = 32
"""No sentence has more; some perturbed instructions of the tasks have as many."""
_TRIES = 16


class Speaker:
    """Says things of tables, "train" nothing that is held out, "held_out" something of it in every sentence."""

    def __init__(self, split: Split) -> None:
        self._split: Split = split
        self._namer = Namer(split)

    def say(self, table: Table, count: int, random: Random) -> list[tuple[int, str]]:
        """Up to ``count`` different sentences and the pieces that they are about."""
        meant = [i for i in table.present if table.seen[i]]
        said: dict[str, int] = {}
        for _ in range(count * _TRIES if meant else 0):
            if len(said) == count:
                break
            piece = self._meant(table, meant, random)
            phrase = self._namer.phrase(table, piece, random)
            sentence = None if phrase is None else self._around(table, phrase, random)
            if sentence is not None and len(sentence.split()) <= WORDS:
                said.setdefault(sentence, piece)
        return [(piece, sentence) for sentence, piece in said.items()]

    def _meant(self, table: Table, meant: Sequence[int], random: Random) -> int:
        """One of the pieces; in half of the cases each kind is as likely, however many there are of it."""
        if random.random() < 0.5:
            kind = random.choice(sorted({table.pieces[i].kind for i in meant}))
            meant = [i for i in meant if table.pieces[i].kind == kind]
        return random.choice(meant)

    def _around(self, table: Table, phrase: Phrase, random: Random) -> str | None:
        kind = table.pieces[phrase.piece].kind
        if random.random() < RECEIVED:
            return self._with_receiver(table, phrase, random)
        held_out = self._frame(random)
        if self._split == "held_out" and not (held_out or phrase.held_out):
            return None
        return asking.order(kind, table.open_states[phrase.piece], phrase.words, held_out, random)

    def _with_receiver(self, table: Table, phrase: Phrase, random: Random) -> str | None:
        """An order to bring a thing somewhere: it is about the thing, unless it asks for the place."""
        other = random.choice(table.present)
        pieces = table.pieces
        if pieces[other].slot == pieces[phrase.piece].slot:
            return None
        second = self._namer.plain(table, other, random)
        if second is None:
            return None
        for first, last, asks in ((phrase, second, False), (second, phrase, True)):
            words = asking.put(pieces[first.piece].kind, pieces[last.piece].kind)
            if words is None or table.open_states[last.piece] < 0:
                continue
            held_out = self._frame(random)
            if self._split == "held_out" and not (held_out or first.held_out or last.held_out):
                return None
            deed = random.choice(words.held_out if held_out else words.train).format(first.words, last.words)
            if not asks:
                return asking.wrapped(deed, held_out, random)
            where = asking.WHERE_TO
            return random.choice(where.held_out if held_out else where.train).format(deed)
        return None

    def _frame(self, random: Random) -> bool:
        """Is what is said around a phrase held out?"""
        return self._split == "held_out" and random.random() < 0.5

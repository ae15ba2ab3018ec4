"""One table as a listener knows it: which of its pieces certain words fit, surely or perhaps."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from envs.grounding.facts import Facts
from envs.grounding.relations import Body
from envs.grounding.things import Piece
from envs.grounding.vocabulary import COLOUR_READINGS, COLOUR_WORDS, COLOURLESS, NOUNS, READINGS
from envs.props.colours import COLOUR_NAMES

THINGS_AT_LARGE = ("thing", "object")
"""Nouns of every thing, but not of its parts."""
OPEN_WORDS = {"open": 1, "closed": -1, "shut": -1}
POSTURE_WORDS = {"standing": 1, "upright": 1, "lying": -1, "fallen": -1}


class Fit(NamedTuple):
    """Pieces that words fit, and those that they might."""

    sure: frozenset[int]
    perhaps: frozenset[int]

    def only(self, piece: int) -> bool:
        """Do the words fit this piece and no other?"""
        return self.sure == {piece} and not self.perhaps


@dataclass(frozen=True, kw_only=True)
class Table:
    """What stands on one table: indices of the ``present`` pieces, and of each piece what is known.

    ``body`` says where it is; ``colour`` is None for what none is said of; ``seen`` whether any view shows it.
    """

    pieces: tuple[Piece, ...]
    present: tuple[int, ...]
    bodies: tuple[Body, ...]
    colours: tuple[str | None, ...]
    open_states: tuple[int, ...]
    upright_states: tuple[int, ...]
    seen: tuple[bool, ...]

    def fits(self, noun: str, colour: str | None = None, state: str | None = None) -> Fit:
        """Which pieces a noun, with a colour's word and a state where given, fits."""
        sure = {i for i in self.present if self._is_called(i, noun)}
        perhaps = {i for i in self.present if self.pieces[i].kind in READINGS.get(noun, ())} - sure
        if colour is not None:
            sure, perhaps = _narrowed(sure, perhaps, lambda i: self._has_colour(i, colour))
        if state is not None:
            sure, perhaps = _narrowed(sure, perhaps, lambda i: self._is_in(i, state))
        return Fit(frozenset(sure), frozenset(perhaps))

    def narrowed(self, fit: Fit, test: Callable[[int], bool | None]) -> Fit:
        """Which of those pass a test as well."""
        sure, perhaps = _narrowed(fit.sure, fit.perhaps, test)
        return Fit(frozenset(sure), frozenset(perhaps))

    def parts_called(self, noun: str, slot: int) -> Fit:
        """Which parts of the thing in ``slot`` a noun fits."""
        fit = self.fits(noun)
        sure, perhaps = ({i for i in each if self.pieces[i].slot == slot} for each in fit)
        return Fit(frozenset(sure), frozenset(perhaps))

    def _is_called(self, i: int, noun: str) -> bool:
        piece = self.pieces[i]
        return not piece.part if noun in THINGS_AT_LARGE else noun in NOUNS[piece.kind].all

    def _has_colour(self, i: int, word: str) -> bool | None:
        colour = self.colours[i]
        if colour is None:
            return None
        if word in COLOUR_WORDS[colour].all:
            return True
        return None if colour in COLOUR_READINGS[word] else False

    def _is_in(self, i: int, state: str) -> bool | None:
        is_about_opening = state in OPEN_WORDS
        states, words = (self.open_states, OPEN_WORDS) if is_about_opening else (self.upright_states, POSTURE_WORDS)
        wanted = words[state]
        return None if states[i] == 0 else states[i] == wanted


def tables_of(facts: Facts, pieces: Sequence[Piece]) -> list[Table]:
    """Each table of some facts, on the host."""
    columns = (facts.present, facts.colour, facts.point_m, facts.half_m, facts.open_state, facts.upright_state)
    rows = zip(*(column.tolist() for column in columns), facts.seen.any(-1).tolist(), strict=True)
    return [
        Table(
            pieces=tuple(pieces),
            present=tuple(i for i, here in enumerate(present) if here),
            bodies=tuple(
                Body(kind=piece.kind, point_m=tuple(p), half_m=tuple(h))
                for piece, p, h in zip(pieces, point, half, strict=True)
            ),
            colours=tuple(
                None if piece.kind in COLOURLESS else COLOUR_NAMES[c] for piece, c in zip(pieces, colour, strict=True)
            ),
            open_states=tuple(is_open),
            upright_states=tuple(upright),
            seen=tuple(seen),
        )
        for present, colour, point, half, is_open, upright, seen in rows
    ]


def _narrowed(
    sure: Iterable[int], perhaps: Iterable[int], test: Callable[[int], bool | None]
) -> tuple[set[int], set[int]]:
    results = {i: test(i) for i in (*sure, *perhaps)}
    kept = {i for i in sure if results[i] is True}
    unclear = {i for i in sure if results[i] is None} | {i for i in perhaps if results[i] is not False}
    return kept, unclear

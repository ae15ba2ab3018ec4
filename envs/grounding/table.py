"""One table as a listener knows it: which of its pieces certain words fit, surely or perhaps."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Any, NamedTuple

from envs.grounding.facts import Facts
from envs.grounding.relations import RELATIONS, Body
from envs.grounding.things import Piece
from envs.grounding.vocabulary import CALLED, COLOUR_READINGS, COLOUR_WORDS, COLOURLESS, HELD_OUT_STATES, READINGS
from envs.language import Split
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

    ``bodies`` says where those that are present are; a colour is None for what none is said of; ``seen`` says whether
    any view shows a piece.
    """

    pieces: tuple[Piece, ...]
    present: tuple[int, ...]
    bodies: Mapping[int, Body]
    colours: tuple[str | None, ...]
    open_states: tuple[int, ...]
    upright_states: tuple[int, ...]
    seen: tuple[bool, ...]

    @cached_property
    def things(self) -> tuple[int, ...]:
        """What is present but for parts."""
        return tuple(i for i in self.present if not self.pieces[i].part)

    @cached_property
    def seen_things(self) -> tuple[int, ...]:
        return tuple(i for i in self.things if self.seen[i])

    @cached_property
    def borne(self) -> Mapping[tuple[int, int], str]:
        """Of the seen things those that are surely in or on another one, with that, and which of the two."""
        return {
            (i, j): name
            for i in self.seen_things
            for j in self.seen_things
            if i != j
            for name in ("inside", "on top")
            if RELATIONS[name](self.bodies[i], self.bodies[j])
        }

    def state_word(self, piece: int, split: Split, random: Random) -> str | None:
        """How a piece is, open or standing or neither; None if nothing is to be said of it."""
        is_open, upright = self.open_states[piece], self.upright_states[piece]
        if not (is_open or upright):
            return None
        return _word_for(OPEN_WORDS if is_open else POSTURE_WORDS, is_open or upright, split, random)

    def without_look(self, piece: int) -> "Table":
        """The same, but that colour and state of a piece, and of the thing that it is part of, are not known."""
        slot = self.pieces[piece].slot
        own = [i for i in self.present if self.pieces[i].slot == slot]

        def but(values: tuple[Any, ...], unknown: Any) -> tuple[Any, ...]:
            changed = list(values)
            for i in own:
                changed[i] = unknown
            return tuple(changed)

        return replace(
            self,
            colours=but(self.colours, None),
            open_states=but(self.open_states, 0),
            upright_states=but(self.upright_states, 0),
        )

    def fits(self, noun: str, colour: str | None = None, state: str | None = None) -> Fit:
        """Which pieces a noun, with a colour's word and a state where given, fits."""
        words = (noun, colour, state)
        if words not in self._fits:
            self._fits[words] = self._fitting(*words)
        return self._fits[words]

    @cached_property
    def _fits(self) -> dict[tuple[str, str | None, str | None], Fit]:
        """What has been asked for."""
        return {}

    def _fitting(self, noun: str, colour: str | None, state: str | None) -> Fit:
        pieces = self.pieces
        if noun in THINGS_AT_LARGE:
            sure, perhaps = set(self.things), set[int]()
        else:
            called, read = CALLED[noun], READINGS[noun]
            sure = {i for i in self.present if pieces[i].kind in called}
            perhaps = {i for i in self.present if pieces[i].kind in read} - sure
        if colour is not None:
            sure, perhaps = _narrowed(sure, perhaps, lambda i: self.has_colour(i, colour))
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

    def has_colour(self, i: int, word: str) -> bool | None:
        """Is a piece surely what this word says, or surely not?"""
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


def opposite_state(state: str, split: Split, random: Random) -> str:
    """A word for what is not as ``state`` says."""
    words = OPEN_WORDS if state in OPEN_WORDS else POSTURE_WORDS
    return _word_for(words, -words[state], split, random)


def tables_of(facts: Facts, pieces: Sequence[Piece]) -> list[Table]:
    """Each table of some facts, on the host."""
    columns = (facts.present, facts.colour, facts.point_m, facts.half_m, facts.open_state, facts.upright_state)
    rows = zip(*(column.tolist() for column in columns), facts.seen.any(-1).tolist(), strict=True)
    return [
        Table(
            pieces=tuple(pieces),
            present=tuple(i for i, here in enumerate(present) if here),
            bodies={
                i: Body(kind=pieces[i].kind, point_m=tuple(point[i]), half_m=tuple(half[i]))
                for i, here in enumerate(present)
                if here
            },
            colours=tuple(
                None if piece.kind in COLOURLESS else COLOUR_NAMES[c] for piece, c in zip(pieces, colour, strict=True)
            ),
            open_states=tuple(is_open),
            upright_states=tuple(upright),
            seen=tuple(seen),
        )
        for present, colour, point, half, is_open, upright, seen in rows
    ]


def _word_for(words: Mapping[str, int], state: int, split: Split, random: Random) -> str:
    fitting = [word for word, meant in words.items() if meant == state]
    return random.choice([word for word in fitting if split != "train" or word not in HELD_OUT_STATES])


def _narrowed(
    sure: Iterable[int], perhaps: Iterable[int], test: Callable[[int], bool | None]
) -> tuple[set[int], set[int]]:
    results = {i: test(i) for i in (*sure, *perhaps)}
    kept = {i for i in sure if results[i] is True}
    unclear = {i for i in sure if results[i] is None} | {i for i in perhaps if results[i] is not False}
    return kept, unclear

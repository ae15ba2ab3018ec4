"""Reads what is said of tables again: an independent listener, with less exacting bounds than the speaker's."""

import math
import re
from collections.abc import Iterator

from envs.grounding.table import Table
from envs.grounding.vocabulary import CALLED, COLOUR_WORDS, HELD_OUT_STATES, NOUNS, READINGS, Words, held_out_pair

STATES = {"open": ("open_states", 1), "closed": ("open_states", -1), "shut": ("open_states", -1)}
STATES |= {word: ("upright_states", 1) for word in ("standing", "upright")}
STATES |= {word: ("upright_states", -1) for word in ("lying", "fallen")}
_WORDS = {word for words in NOUNS.values() for word in words.all}
NOUN_WORDS = sorted(_WORDS | {"thing", "object"}, key=len, reverse=True)
COLOURS = {word: colour for colour, words in COLOUR_WORDS.items() for word in words.all}
CLASS = (
    rf"(?:(?P<state>{'|'.join(STATES)}) )??(?:(?P<colour>{'|'.join(sorted(COLOURS, key=len, reverse=True))}) )?"
    rf"(?P<noun>{'|'.join(NOUN_WORDS)})"
)
PLAIN = re.compile(CLASS)
BARE = re.sub(r"\?P<\w+>", "?:", CLASS)
RELATIONS = {
    "left": r"(?:to the )?left of|on the left-hand side of",
    "right": r"(?:to the )?right of|on the right-hand side of",
    "front": "in front of|nearer to the robot than|on the near side of",
    "behind": "behind|farther from the robot than|on the far side of",
    "next": "next to|beside|right by",
    "in": "inside|lying in|in",
    "on": "on top of|resting on|on",
}
RANKS = {
    "y<": rf"leftmost ({BARE})|({BARE}) (?:farthest to the|furthest) left",
    "y>": rf"rightmost ({BARE})|({BARE}) (?:farthest to the|furthest) right",
    "x>": rf"nearest ({BARE})|({BARE}) (?:nearest to the robot|closest to the arm)",
    "x<": rf"farthest ({BARE})|most distant ({BARE})|({BARE}) farthest from the robot",
    "y<2": rf"second ({BARE}) from the left",
    "y>2": rf"second ({BARE}) from the right",
    "x>2": rf"second nearest ({BARE})",
    "x<2": rf"second farthest ({BARE})",
    "my": rf"middle ({BARE}) from left to right",
    "mx": rf"middle ({BARE}) from near to far",
    "s>": rf"(?:smallest|tiniest) ({BARE})",
    "s<": rf"(?:biggest|largest) ({BARE})",
}
_NO_WORDS = Words(train=())


def says_held_out(text: str) -> bool:
    """Is a noun, a colour, a state or a pair of these in it that training must not say, whatever is meant?"""
    return any(all(each) for each in _withheld(text))


def may_say_held_out(text: str) -> bool:
    """The same if what it might mean is meant."""
    return any(any(each) for each in _withheld(text))


def _withheld(text: str) -> Iterator[list[bool]]:
    """For each class of things that a text speaks of, and each kind that is called so: must training not say it?"""
    for found in PLAIN.finditer(text):
        noun, colour = found["noun"], COLOURS.get(found["colour"])
        if (
            found["state"] in HELD_OUT_STATES
            or noun == "object"
            or (colour is not None and found["colour"] in COLOUR_WORDS[colour].held_out)
        ):
            yield [True]
        elif noun != "thing":
            yield [
                noun in NOUNS[kind].held_out or (colour is not None and held_out_pair(colour, kind))
                for kind in CALLED[noun]
            ]


class Listener:
    """Reads a phrase and finds what on the table it might mean."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def meant(self, phrase: str) -> set[int]:
        words = phrase.removeprefix("the ")
        if PLAIN.fullmatch(words):
            return self.of_class(words)
        owned = re.fullmatch(rf"(.*)'s ({BARE})", words) or re.fullmatch(rf"()({BARE}) of (the .*)", words)
        if owned and owned[2]:
            owners = self.meant(f"the {owned[1]}") if owned[1] else self.meant(owned[3])
            slots = {self.table.pieces[i].slot for i in owners}
            return {i for i in self.of_class(owned[2]) if self.table.pieces[i].slot in slots}
        for rank, pattern in RANKS.items():
            found = re.fullmatch(pattern, words)
            if found:
                return self.first(rank, self.of_class(next(group for group in found.groups() if group)))
        ends = re.fullmatch(rf"({BARE}) between (the {BARE}) and (the {BARE})", words)
        if ends:
            return self.in_between(*(ends[i] for i in (1, 2, 3)))
        close = re.fullmatch(rf"({BARE}) (closest to|least far from|farthest from|most distant from) (the .*)", words)
        if close:
            (anchor,) = self.meant(close[3])
            sign = 1 if close[2] in ("closest to", "least far from") else -1
            members = self.of_class(close[1]) - {anchor}
            return {min(members, key=lambda i: sign * math.dist(self.at(i), self.at(anchor)))}
        for name, pattern in RELATIONS.items():
            related = re.fullmatch(rf"({BARE}) (?:{pattern}) (the .*)", words)
            if related:
                (anchor,) = self.meant(related[2])
                return {i for i in self.of_class(related[1]) - {anchor} if self.holds(name, i, anchor)}
        raise AssertionError(f"cannot read {phrase!r}")

    def at(self, i: int) -> tuple[float, float]:
        return self.table.bodies[i].point_m[0], self.table.bodies[i].point_m[1]

    def of_class(self, words: str) -> set[int]:
        """Whatever a noun might mean, of that colour and in that state or in none."""
        found = PLAIN.fullmatch(words)
        assert found, words
        noun, colour, state = found["noun"], found["colour"], found["state"]
        table = self.table
        if noun in ("thing", "object"):
            members = {i for i in table.present if not table.pieces[i].part}
        else:
            kinds = READINGS[noun] | {kind for kind, each in NOUNS.items() if noun in each.all}
            members = {i for i in table.present if table.pieces[i].kind in kinds}
        if colour is not None:
            members = {i for i in members if table.colours[i] in (None, COLOURS[colour])}
        if state is not None:
            name, wanted = STATES[state]
            members = {i for i in members if getattr(table, name)[i] in (0, wanted)}
        return members

    def first(self, rank: str, members: set[int]) -> set[int]:
        def value(i: int) -> float:
            if rank[0] == "s":
                return math.prod(self.table.bodies[i].half_m)
            return self.at(i)["xy".index(rank[-1] if rank[0] == "m" else rank[0])]

        order = sorted(members, key=value, reverse="<" in rank)
        if rank[0] == "m":
            assert len(order) % 2 == 1
            return {order[len(order) // 2]}
        return {order[1 if rank.endswith("2") else 0]}

    def holds(self, name: str, i: int, j: int) -> bool:
        a, b = self.table.bodies[i], self.table.bodies[j]
        (x, y), (u, v) = self.at(i), self.at(j)
        reach = [a.half_m[axis] + b.half_m[axis] for axis in (0, 1)]
        over = abs(x - u) < reach[0] and abs(y - v) < reach[1]
        low = a.point_m[2] - a.half_m[2]
        gap = math.hypot(max(0.0, abs(x - u) - reach[0]), max(0.0, abs(y - v) - reach[1]))
        return {
            "left": y > v + 0.02,
            "right": y < v - 0.02,
            "front": x < u - 0.02,
            "behind": x > u + 0.02,
            "next": gap < 0.06 and not over,
            "in": over and b.kind in ("bin", "drawer") and low < b.point_m[2],
            "on": over and low > b.point_m[2],
        }[name]

    def relation(self, words: str) -> str:
        """Which relation some words stand for."""
        (name,) = (name for name, pattern in RELATIONS.items() if re.fullmatch(pattern, words))
        return name

    def surely(self, words: str) -> set[int]:
        """What some view shows that is called just so, in that colour and state."""
        found = PLAIN.fullmatch(words)
        assert found, words
        name, wanted = STATES.get(found["state"], ("", 0))
        return {
            i
            for i in self.of_class(words)
            if found["noun"] in NOUNS[self.table.pieces[i].kind].all
            and found["colour"] in (None, *COLOUR_WORDS.get(self.table.colours[i] or "", _NO_WORDS).all)
            and (not name or getattr(self.table, name)[i] == wanted)
            and self.table.seen[i]
        }

    def in_between(self, words: str, one: str, other: str) -> set[int]:
        (first,), (last,) = self.meant(one), self.meant(other)
        apart = math.dist(self.at(first), self.at(last))
        ways = {
            i: math.dist(self.at(i), self.at(first)) + math.dist(self.at(i), self.at(last))
            for i in self.of_class(words)
        }
        return {i for i, way in ways.items() if i not in (first, last) and way < 1.06 * apart}

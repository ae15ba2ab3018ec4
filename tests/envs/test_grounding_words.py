"""Sentences that each fit one thing, by a checker that reads them again; and what training never says."""

import math
import re
from collections.abc import Iterator
from random import Random

import pytest

from envs.grounding import asking
from envs.grounding.grammar import Namer, Phrase
from envs.grounding.relations import Body, behind, between, inside, left, next_to, on_top, ranked
from envs.grounding.scenes import SceneSource
from envs.grounding.speaking import WORDS
from envs.grounding.table import Table, tables_of
from envs.grounding.vocabulary import COLOUR_WORDS, NOUNS, READINGS, held_out_pair
from envs.language import SPLITS, Split
from envs.perturbations.words import ADDRESSED, DEEDS, POLITE, THINGS
from envs.props.colours import COLOUR_NAMES
from envs.tasks import TASKS
from vla.backbones.nano import TEXT_TOKENS
from vla.backbones.tokenizer import NanoTokenizer

_STATES = {"open": ("open_states", 1), "closed": ("open_states", -1), "shut": ("open_states", -1)}
_STATES |= {word: ("upright_states", 1) for word in ("standing", "upright")}
_STATES |= {word: ("upright_states", -1) for word in ("lying", "fallen")}
_NOUNS = sorted({word for words in NOUNS.values() for word in words.all} | {"thing", "object"}, key=len, reverse=True)
_COLOURS = {word: colour for colour, words in COLOUR_WORDS.items() for word in words.all}
_CLASS = (
    rf"(?:(?P<state>{'|'.join(_STATES)}) )??(?:(?P<colour>{'|'.join(sorted(_COLOURS, key=len, reverse=True))}) )?"
    rf"(?P<noun>{'|'.join(_NOUNS)})"
)
_PLAIN = re.compile(_CLASS)
_BARE = re.sub(r"\?P<\w+>", "?:", _CLASS)
_SIDES = {
    "left": r"(?:to the )?left of|on the left-hand side of",
    "right": r"(?:to the )?right of|on the right-hand side of",
    "front": "in front of|nearer to the robot than|on the near side of",
    "behind": "behind|farther from the robot than|on the far side of",
    "next": "next to|beside|right by",
    "in": "inside|lying in|in",
    "on": "on top of|resting on|on",
}
_RANKS = {
    "y<": rf"leftmost ({_BARE})|({_BARE}) (?:farthest to the|furthest) left",
    "y>": rf"rightmost ({_BARE})|({_BARE}) (?:farthest to the|furthest) right",
    "x>": rf"nearest ({_BARE})|({_BARE}) (?:nearest to the robot|closest to the arm)",
    "x<": rf"farthest ({_BARE})|most distant ({_BARE})|({_BARE}) farthest from the robot",
    "y<2": rf"second ({_BARE}) from the left",
    "y>2": rf"second ({_BARE}) from the right",
    "x>2": rf"second nearest ({_BARE})",
    "x<2": rf"second farthest ({_BARE})",
    "my": rf"middle ({_BARE}) from left to right",
    "mx": rf"middle ({_BARE}) from near to far",
    "s>": rf"(?:smallest|tiniest) ({_BARE})",
    "s<": rf"(?:biggest|largest) ({_BARE})",
}


class Listener:
    """Reads a phrase and finds what on the table it might mean, with less exacting bounds than the speaker's."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def meant(self, phrase: str) -> set[int]:
        words = phrase.removeprefix("the ")
        if _PLAIN.fullmatch(words):
            return self.of_class(words)
        owned = re.fullmatch(rf"(.*)'s ({_BARE})", words) or re.fullmatch(rf"()({_BARE}) of (the .*)", words)
        if owned and owned[2]:
            owners = self.meant(f"the {owned[1]}") if owned[1] else self.meant(owned[3])
            slots = {self.table.pieces[i].slot for i in owners}
            return {i for i in self.of_class(owned[2]) if self.table.pieces[i].slot in slots}
        for rank, pattern in _RANKS.items():
            found = re.fullmatch(pattern, words)
            if found:
                return self.first(rank, self.of_class(next(group for group in found.groups() if group)))
        ends = re.fullmatch(rf"({_BARE}) between (the {_BARE}) and (the {_BARE})", words)
        if ends:
            return self.in_between(*(ends[i] for i in (1, 2, 3)))
        close = re.fullmatch(rf"({_BARE}) (closest to|least far from|farthest from|most distant from) (the .*)", words)
        if close:
            (anchor,) = self.meant(close[3])
            sign = 1 if close[2] in ("closest to", "least far from") else -1
            members = self.of_class(close[1]) - {anchor}
            return {min(members, key=lambda i: sign * math.dist(self.at(i), self.at(anchor)))}
        for name, pattern in _SIDES.items():
            related = re.fullmatch(rf"({_BARE}) (?:{pattern}) (the .*)", words)
            if related:
                (anchor,) = self.meant(related[2])
                return {i for i in self.of_class(related[1]) - {anchor} if self.holds(name, i, anchor)}
        raise AssertionError(f"cannot read {phrase!r}")

    def at(self, i: int) -> tuple[float, float]:
        return self.table.bodies[i].point_m[0], self.table.bodies[i].point_m[1]

    def of_class(self, words: str) -> set[int]:
        """Whatever a noun might mean, of that colour and in that state or in none."""
        found = _PLAIN.fullmatch(words)
        assert found, words
        noun, colour, state = found["noun"], found["colour"], found["state"]
        table = self.table
        if noun in ("thing", "object"):
            members = {i for i in table.present if not table.pieces[i].part}
        else:
            kinds = READINGS[noun] | {kind for kind, each in NOUNS.items() if noun in each.all}
            members = {i for i in table.present if table.pieces[i].kind in kinds}
        if colour is not None:
            members = {i for i in members if table.colours[i] in (None, _COLOURS[colour])}
        if state is not None:
            name, wanted = _STATES[state]
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

    def in_between(self, words: str, one: str, other: str) -> set[int]:
        (first,), (last,) = self.meant(one), self.meant(other)
        apart = math.dist(self.at(first), self.at(last))
        ways = {
            i: math.dist(self.at(i), self.at(first)) + math.dist(self.at(i), self.at(last))
            for i in self.of_class(words)
        }
        return {i for i, way in ways.items() if i not in (first, last) and way < 1.06 * apart}


@pytest.fixture(scope="module")
def source() -> Iterator[SceneSource]:
    made = SceneSource(worlds=32)
    yield made
    made.close()


@pytest.fixture(scope="module")
def tables(source: SceneSource) -> list[Table]:
    return [table for first in range(0, 256, 32) for table in tables_of(source.facts(first, 32), source.pieces)]


def phrases(tables: list[Table], split: Split) -> Iterator[tuple[Table, Phrase]]:
    namer = Namer(split)
    for seed, table in enumerate(tables):
        random = Random(seed)
        for _ in range(10):
            found = namer.phrase(table, random.choice(table.present), random)
            if found is not None:
                yield table, found


@pytest.mark.parametrize("split", SPLITS)
def test_every_phrase_fits_one_thing_and_that_is_the_one_that_is_meant(tables: list[Table], split: Split) -> None:
    said = list(phrases(tables, split))
    assert len(said) > 1500
    wrong = [phrase.words for table, phrase in said if Listener(table).meant(phrase.words) != {phrase.piece}]
    assert not wrong


@pytest.mark.parametrize("split", SPLITS)
def test_all_ways_of_naming_occur(tables: list[Table], split: Split) -> None:
    words = " | ".join(phrase.words for _, phrase in phrases(tables, split))
    for part in (
        "knob of",
        "'s knob",
        "left of",
        "right of",
        "behind",
        "in front of",
        "closest to",
        "leftmost",
        "on top of",
    ):
        assert part in words, part
    for pattern in (
        r"open \w+",
        r"closed \w+",
        "standing",
        "lying",
        "thing",
        r"the bin\b",
        "middle",
        r"\bin(?:side)? the \w+",
    ):
        assert re.search(pattern, words), pattern
    assert ("between" in words) == (split == "held_out")


def test_training_says_nothing_that_is_held_out(tables: list[Table]) -> None:
    own = {word for words in NOUNS.values() for word in words.train}
    withheld = {word for words in (*NOUNS.values(), *COLOUR_WORDS.values()) for word in words.held_out} - own
    withheld |= {"between", "fallen", "object", "furthest", "left-hand", "tiniest"}
    for table, phrase in phrases(tables, "train"):
        assert not phrase.held_out
        for word in withheld:
            assert not re.search(rf"\b{word}\b", phrase.words), phrase.words
        named = _PLAIN.fullmatch(phrase.words.removeprefix("the "))
        piece = table.pieces[phrase.piece]
        if named and named["colour"] and named["noun"] != "thing":
            assert not held_out_pair(_COLOURS[named["colour"]], piece.kind), phrase.words
            assert named["noun"] in NOUNS[piece.kind].train


def test_held_out_pairs_leave_every_colour_and_every_kind_to_training() -> None:
    pairs = [(colour, kind) for colour in COLOUR_NAMES for kind in NOUNS]
    held_out = [pair for pair in pairs if held_out_pair(*pair)]
    assert 0.08 < len(held_out) / len(pairs) < 0.14
    assert {colour for colour, _ in held_out} == set(COLOUR_NAMES)
    for kind in NOUNS:
        assert sum(held_out_pair(colour, kind) for colour in COLOUR_NAMES) <= 2


def test_what_perturbed_instructions_test_is_held_out_here() -> None:
    for noun, synonyms in THINGS.items():
        for kind, words in NOUNS.items():
            if words.train[0] == noun:
                assert set(synonyms) <= set(words.held_out) and not set(synonyms) & set(words.train), kind
    tasks = " ".join(sentence for task in TASKS.values() for sentence in task().phrasings.train)
    tested = {word for synonyms in DEEDS.values() for each in synonyms for word in re.findall(r"\w+", each)}
    frames = (asking._ANY, asking._OPENED, asking._CLOSED, asking._SWUNG, asking.WHERE_TO)
    for words in (*frames, *asking._PUT.values(), *asking._DEEDS.values()):
        for sentence in words.train:
            for word in re.findall(r"\w+", sentence):
                assert word not in tested or re.search(rf"\b{word}\b", tasks), sentence


@pytest.mark.parametrize("split", SPLITS)
def test_sentences_of_a_split(split: Split) -> None:
    source = SceneSource(split=split, worlds=32)
    made = source.batch(0, 64, 8)
    source.close()
    for table in range(64):
        said = [each for each, at in zip(made.sentences, made.table.tolist(), strict=True) if at == table]
        assert len(set(said)) == len(said) == 8
    polite = [re.escape(form).replace(r"\{0\}", ".*") for form in (*POLITE["test"], *ADDRESSED["test"])]
    tested = [said for said in made.sentences if any(re.fullmatch(form, said) for form in polite)]
    assert bool(tested) == (split == "held_out")
    assert max(len(said.split()) for said in made.sentences) <= WORDS
    assert NanoTokenizer().longest(made.sentences) <= TEXT_TOKENS
    assert any(said.startswith("put ") or " into the " in said for said in made.sentences)


def test_knobs_are_named_and_are_not_their_cabinets(source: SceneSource) -> None:
    drawers = SceneSource(tasks=("drawer", "tabletop-goal"), worlds=16)
    made = drawers.batch(0, 48, 6)
    knobs = [i for i, said in enumerate(made.sentences) if re.search(r"knob(?: of |$|\?)", said)]
    cases = [i for i, said in enumerate(made.sentences) if re.search(r"cas(?:e|ing)(?: of |$|\?)", said)]
    apart = [
        (made.point_m[i] - made.point_m[j]).norm().item()
        for i in knobs
        for j in cases
        if made.table[i] == made.table[j]
    ]
    assert len(knobs) > 20 and min(apart) > 0.08
    assert made.cover[knobs].flatten(1).sum(1).float().mean() < made.cover[cases].flatten(1).sum(1).float().mean()
    drawers.close()


def body(x: float, y: float, kind: str = "cube", half: float = 0.02, z: float = 0.02) -> Body:
    return Body(kind=kind, point_m=(x, y, z), half_m=(half, half, 0.02))


def test_sides_are_the_robots_own_and_have_margins() -> None:
    middle = body(0.5, 0.0)
    assert left(body(0.5, 0.1), middle) is True and left(middle, body(0.5, 0.1)) is False
    assert left(body(0.5, 0.03), middle) is None and left(body(0.7, 0.1), middle) is None
    assert behind(body(0.6, 0.0), middle) is True and behind(body(0.45, 0.0), middle) is False


def test_near_in_on_and_between_have_margins() -> None:
    cube, bin_ = body(0.5, 0.0), body(0.5, 0.0, "bin", half=0.065, z=0.015)
    assert next_to(cube, body(0.5, 0.06)) is True and next_to(cube, body(0.5, 0.2)) is False
    assert next_to(cube, body(0.5, 0.1)) is None and next_to(cube, bin_) is None
    assert inside(body(0.52, 0.01, z=0.024), bin_) is True and inside(body(0.5, 0.3), bin_) is False
    assert on_top(body(0.5, 0.0, z=0.06), cube) is True and on_top(cube, body(0.5, 0.0, z=0.06)) is False
    ends = body(0.5, -0.2), body(0.5, 0.2)
    assert between(cube, *ends) is True and between(body(0.5, 0.35), *ends) is False
    assert between(body(0.56, 0.0), *ends) is None


def test_a_first_must_lead() -> None:
    row = [body(0.4, 0.1), body(0.5, 0.0), body(0.52, -0.1)]
    assert ranked("leftmost", row) == 0 and ranked("leftmost", row, 1) == 1
    assert ranked("nearest", row) == 0 and ranked("farthest", row) is None
    assert ranked("leftmost", row[:1]) is None

"""Sentences that each fit one thing, by a checker that reads them again; and what training never says."""

import re
from collections.abc import Iterator
from random import Random

import pytest
from listener import COLOURS, PLAIN, Listener

from envs.grounding import asking
from envs.grounding.grammar import Namer, Phrase
from envs.grounding.relations import Body, behind, between, inside, left, next_to, on_top, ranked
from envs.grounding.scenes import SceneSource
from envs.grounding.speaking import WORDS
from envs.grounding.table import Table, tables_of
from envs.grounding.vocabulary import COLOUR_WORDS, NOUNS, held_out_pair
from envs.language import SPLITS, Split
from envs.perturbations.words import ADDRESSED, DEEDS, POLITE, THINGS
from envs.props.colours import COLOUR_NAMES
from envs.tasks import TASKS
from vla.backbones.nano import TEXT_TOKENS
from vla.backbones.tokenizer import NanoTokenizer


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
        named = PLAIN.fullmatch(phrase.words.removeprefix("the "))
        piece = table.pieces[phrase.piece]
        if named and named["colour"] and named["noun"] != "thing":
            assert not held_out_pair(COLOURS[named["colour"]], piece.kind), phrase.words
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
    aside = [body(0.30, 0.35), body(0.36, 0.0)]
    assert ranked("nearest", aside) is None, "along x it is the first, and as the crow flies the second"
    assert ranked("nearest", [body(0.30, 0.1), body(0.36, 0.0)]) == 0

"""What is told of tables and asked about them: read again from the words alone and checked against what is there."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

import numpy as np
import pytest
from listener import BARE, COLOURS, PLAIN, RELATIONS, STATES, Listener, may_say_held_out, says_held_out

from envs.grounding.plurals import NUMBERS, plural
from envs.grounding.questioning import Questioner
from envs.grounding.scenes import SceneSource
from envs.grounding.speaking import WORDS
from envs.grounding.table import Table, tables_of
from envs.grounding.telling import Teller
from envs.grounding.vocabulary import CALLED, NOUNS
from envs.language import SPLITS, Split
from vla.backbones.nano import TEXT_TOKENS
from vla.backbones.tokenizer import NanoTokenizer

_NP = rf"(?:the|an?) ({BARE})"
_REL = f"({'|'.join(RELATIONS.values())})"
_STATE = f"({'|'.join(STATES)})"
_COLOUR = f"({'|'.join(sorted(COLOURS, key=len, reverse=True))})"
_FRAMES = re.compile(
    "(?:there is|i see|here is|the table holds|on the table there is|the picture shows|one can make out|you find) "
)
_PLURALS = {plural(word): word for word in CALLED}
_RARE = re.compile(
    "left-hand|right-hand|near side|far side|right by|lying in|resting on|furthest|closest to the arm|most distant"
    "|least|tiniest|largest|between|second .* from the right|second farthest|picture shows|make out|you find|whereas"
    r"|can .* be|is found|tell me|painted (?!tee)|painted\?|what is the colour of|the number of|count the"
    "|would you say|which side of .* on|or .*: how|what can"
)
"""Words around nouns and colours that training must not say."""


@pytest.fixture(scope="module")
def source() -> Iterator[SceneSource]:
    made = SceneSource(worlds=32)
    yield made
    made.close()


@pytest.fixture(scope="module")
def tables(source: SceneSource) -> list[Table]:
    return [table for first in range(0, 128, 32) for table in tables_of(source.facts(first, 32), source.pieces)]


def told(tables: list[Table], split: Split) -> Iterator[tuple[Table, str, str]]:
    teller = Teller(split)
    for seed, table in enumerate(tables):
        for draw in range(4):
            found = teller.tell(table, Random(f"{seed} {draw}"))
            if found is not None:
                yield table, *found


def asked(tables: list[Table], split: Split) -> Iterator[tuple[Table, str, str]]:
    questioner = Questioner(split)
    for seed, table in enumerate(tables):
        for question, answer in questioner.ask(table, 8, Random(seed)):
            yield table, question, answer


def clauses(sentence: str) -> list[str]:
    """A sentence in its claims: each a noun phrase, a relation or a state."""
    found: list[str] = []
    for part in re.split(r", whereas | while |, and | and |, ", sentence):
        if part in STATES:
            found[-1] = f"{found[-1]} is {part}"
        else:
            found.append(_FRAMES.sub("", part, count=1) if _FRAMES.match(part) else part)
    return found


def witnesses(table: Table, clause: str, members: Callable[[str], set[int]]) -> bool:
    """Is there anything of ``members`` that makes a claim true?"""
    listener = Listener(table)
    if re.fullmatch(_NP, clause):
        return bool(members(re.fullmatch(_NP, clause)[1]))  # pyright: ignore[reportOptionalSubscript]
    state = re.fullmatch(rf"{_NP} is (?:found )?{_STATE}", clause)
    if state:
        return bool(members(f"{state[2]} {state[1]}"))
    related = re.fullmatch(rf"{_NP} (?:is |can be seen )?{_REL} {_NP}", clause)
    if related:
        what, relation, than = related[1], related[2], related[3]
    else:
        turned = re.fullmatch(rf"{_REL} {_NP} (?:is|you find) {_NP}", clause)
        assert turned, f"cannot read {clause!r}"
        relation, than, what = turned[1], turned[2], turned[3]
    name = listener.relation(relation)
    return any(listener.holds(name, i, j) for i in members(what) for j in members(than) if i != j)


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_told_is_true_and_its_counterpart_is_false_in_one_fact(tables: list[Table], split: Split) -> None:
    forms: Counter[str] = Counter()
    for table, sentence, false in told(tables, split):
        listener = Listener(table)
        claims, changed = clauses(sentence), clauses(false)
        assert all(witnesses(table, claim, listener.surely) for claim in claims), sentence
        different = [new for old, new in zip(claims, changed, strict=True) if old != new]
        assert len(different) == 1, (sentence, false)
        assert not witnesses(table, different[0], listener.of_class), false
        for definite in re.findall(rf"\bthe ({BARE})", sentence):
            assert len(listener.of_class(definite)) == 1, sentence
        for claim in claims:
            relation = re.search(rf"\b{_REL} (?:the|an?) ", claim)
            forms[listener.relation(relation[1]) if relation else "state" if " is " in claim else "thing"] += 1
        forms[f"{len(claims)} claims"] += 1
    assert min(forms[name] for name in (*RELATIONS, "state", "thing", "1 claims", "2 claims", "3 claims")) > 2, forms


@pytest.mark.parametrize("split", SPLITS)
def test_almost_every_table_is_told_about(tables: list[Table], split: Split) -> None:
    teller = Teller(split)
    found = [teller.tell(table, Random(i)) for i, table in enumerate(tables)]
    assert sum(each is not None for each in found) > 0.95 * len(tables)


def thing(table: Table, pieces: set[int]) -> str:
    (piece,) = pieces
    return f"a {table.colours[piece]} {NOUNS[table.pieces[piece].kind].train[0]}"


def place(table: Table, piece: int) -> str:
    listener = Listener(table)
    wholes = [i for i in table.present if not table.pieces[i].part]
    bearers = [(name, i) for i in wholes if i != piece for name in ("in", "on") if listener.holds(name, piece, i)]
    if not bearers:
        return "on the table"
    ((name, bearer),) = bearers
    kind, noun = table.pieces[bearer].kind, NOUNS[table.pieces[bearer].kind].train[0]
    alone = [table.pieces[i].kind for i in wholes].count(kind) == 1
    return f"{name} the {noun}" if alone else f"{name} the {table.colours[bearer]} {noun}"


def side_of(table: Table, piece: int, other: int) -> str:
    (x, y), (u, v) = ((table.bodies[i].point_m[0], table.bodies[i].point_m[1]) for i in (piece, other))
    across = abs(y - v) > abs(x - u)
    assert max(abs(x - u), abs(y - v)) > 0.04 and max(abs(x - u), abs(y - v)) > 1.9 * min(abs(x - u), abs(y - v))
    return ("left" if y > v else "right") if across else ("behind" if x > u else "in front")


def yes_or_no(sure: bool, possible: bool) -> str:
    assert sure == possible, "doubtful"
    return "yes" if sure else "no"


def readers(table: Table) -> dict[str, tuple[str, Callable[..., str]]]:
    """By kind of question: what it reads, and what is rightly answered."""
    listener = Listener(table)

    def one(phrase: str) -> int:
        (piece,) = listener.meant(phrase)
        assert table.seen[piece]
        return piece

    def counted(several: str, where: str | None) -> str:
        words, noun = next((several[: -len(each)], noun) for each, noun in _LONGEST if several.endswith(each))
        pieces = listener.of_class(words + noun)
        assert all(table.seen[i] for i in pieces)
        assert where is None or not pieces.intersection(i for i, _ in table.borne), (
            "what is in a bin is not on the table"
        )
        return NUMBERS[len(pieces)]

    def what(relation: str, phrase: str) -> str:
        name, anchor = listener.relation(relation), one(phrase)
        wholes = {i for i in table.present if not table.pieces[i].part} - {anchor}
        return thing(table, {i for i in wholes if listener.holds(name, i, anchor)})

    def either(first: str, last: str, phrase: str) -> str:
        name, wanted = STATES[first]
        state = getattr(table, name)[one(phrase)]
        assert state and STATES[last] == (name, -wanted)
        return first if state == wanted else last

    def in_state(phrase: str, word: str) -> str:
        name, wanted = STATES[word]
        state = getattr(table, name)[one(phrase)]
        return yes_or_no(state == wanted, state != -wanted)

    def exists(words: str) -> str:
        return yes_or_no(*(witnesses(table, words, members) for members in (listener.surely, listener.of_class)))

    def related(phrase: str, relation: str, other: str) -> str:
        return yes_or_no(*2 * (listener.holds(listener.relation(relation), one(phrase), one(other)),))

    def coloured(phrase: str, word: str) -> str:
        own, said = table.colours[one(phrase)], COLOURS[word]
        return yes_or_no(own == said, own == said or (own == "blue" and word == "light blue"))

    the = f"(the {BARE})"
    return {
        "count": (
            "(?:how many|what is the number of|count the) (.*?)(?: are there| do you see|( are on the table))?",
            counted,
        ),
        "colour": (
            "(?:(?:what|which) colour (?:is|does)|what is the colour of|how is) (the .*?)(?: have| painted)?",
            lambda phrase: str(table.colours[one(phrase)]),
        ),
        "where": (f"where (?:is|do you see|can) {the}(?: be found)?", lambda phrase: place(table, one(phrase))),
        "side": (
            f"(?:on )?(?:which|what) side of {the} is {the}(?: on)?",
            lambda other, phrase: side_of(table, one(phrase), one(other)),
        ),
        "what": (f"(?:what is|which thing is|what can be seen) {_REL} {the}", what),
        "first": (
            "(?:what is|tell me what) (the .*thing.*?)(?: is)?",
            lambda phrase: thing(table, listener.meant(phrase)),
        ),
        "state": (f"is (the .*) {_STATE} or {_STATE}", lambda phrase, first, last: either(first, last, phrase)),
        "how": (f"{_STATE} or {_STATE}: how is (the .*)", either),
        "in state": (f"(?:is|would you say that) (the .*?)(?: is)? {_STATE}", in_state),
        "exists": (f"(?:is there|do you see|can you make out|can) (an? {BARE}(?: {_SOME})?)(?: be seen)?", exists),
        "related": (f"(?:is|can) {the}(?: be seen)? {_REL} {the}", related),
        "is colour": (f"is (?:the colour of )?(the .*?)(?: painted)? {_COLOUR}", coloured),
    }


_SOME = f"{_REL} an? {BARE}".replace("(", "(?:", 1)
_LONGEST = sorted(_PLURALS.items(), key=lambda pair: -len(pair[0]))


@pytest.mark.parametrize("split", SPLITS)
def test_every_question_has_its_right_answer(tables: list[Table], split: Split) -> None:
    kinds: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    for table, question, answer in asked(tables, split):
        for kind, (pattern, read) in readers(table).items():
            found = re.fullmatch(pattern, question.removesuffix("?"))
            if found:
                assert read(*found.groups()) == answer, (question, answer)
                kinds[kind] += 1
                answered[answer] += 1
                break
        else:
            raise AssertionError(f"cannot read {question!r}")
    assert sum(kinds.values()) > 7.5 * len(tables)
    assert set(kinds) == set(readers(tables[0])) - ({"how"} if split == "train" else set())
    assert min(kinds.values()) > 3, kinds
    assert 0.45 < answered["yes"] / (answered["yes"] + answered["no"]) < 0.58
    assert min(answered[word] for word in ("zero", "two", "left", "behind", "open", "closed", "on the table")) > 2


def test_no_state_is_told_by_the_word_that_asks_for_it(tables: list[Table]) -> None:
    """Most things stand and most drawers are shut; who has not looked must not gain by saying so."""
    questioner, random = Questioner("train"), Random(0)
    tried = [questioner._is_in_state(table, random) for table in tables for _ in range(40)]
    found = [each for each in tried if each is not None and not each.held_out]
    for word in ("open", "closed", "standing", "lying", "upright"):
        answers = [each.answer == "yes" for each in found if each.words.endswith(f" {word}?")]
        assert 0.25 < np.mean(answers) < 0.75 and len(answers) > 30, (word, np.mean(answers), len(answers))


def test_no_answer_is_given_away_by_its_own_question(tables: list[Table]) -> None:
    for _, question, answer in asked(tables, "train"):
        if answer in COLOURS and re.fullmatch(rf"what colour is the (?:{BARE})\?", question):
            assert not re.search(rf"\b{answer}\b", question), question
        if answer in STATES:
            assert len(re.findall(rf"\b{answer}\b", question)) == 1, question


def all_texts(tables: list[Table], split: Split) -> Iterator[str]:
    """What is told, and what is asked and answered in one, a colour that is asked for or about with its noun."""
    for _, sentence, false in told(tables, split):
        yield from (sentence, false)
    for _, question, answer in asked(tables, split):
        singular = re.sub(r"\w+", lambda word: _PLURALS.get(word[0], word[0]), question)
        asked_about = re.search(rf"{_COLOUR}\?$", question)
        colour = asked_about[1] if asked_about else answer
        named = PLAIN.search(question.rpartition("'s ")[2])
        yield f"{singular} {colour} {named['noun']}" if colour in COLOURS and named else f"{singular} {answer}"


def test_training_says_nothing_that_is_held_out(tables: list[Table]) -> None:
    texts = list(all_texts(tables, "train"))
    assert len(texts) > 1500
    assert not [text for text in texts if says_held_out(text) or _RARE.search(text)]


def test_the_rest_says_something_that_is_held_out_each_time(tables: list[Table]) -> None:
    texts = list(all_texts(tables, "held_out"))
    assert len(texts) > 1500
    assert not [text for text in texts if not (may_say_held_out(text) or _RARE.search(text))]


@pytest.mark.parametrize("split", SPLITS)
def test_all_texts_fit_the_window(tables: list[Table], split: Split) -> None:
    texts = [text for _, *pair in told(tables, split) for text in pair]
    texts += [text for _, question, answer in asked(tables, split) for text in (question, answer)]
    assert max(len(text.split()) for text in texts) <= WORDS
    assert NanoTokenizer().longest(texts) <= TEXT_TOKENS


def test_what_is_named_told_and_asked_depends_on_the_seed_alone(source: SceneSource) -> None:
    whole = source.batch(20, 6, 3, questions_per_table=4, captions=True)
    plain, questions = source.batch(20, 6, 3), source.batch(20, 6, 1, questions_per_table=4)
    assert plain.sentences == whole.sentences
    assert not plain.told.sentences and not plain.asked.questions and len(plain.told.table) == 0
    assert questions.asked.questions == whole.asked.questions and not questions.told.sentences
    part = source.batch(23, 2, 1, questions_per_table=4, captions=True)
    for of, names in (("told", ("sentences", "false")), ("asked", ("questions", "answers"))):
        mine, all_ = getattr(part, of), getattr(whole, of)
        assert all_.table.tolist() == sorted(all_.table.tolist()) and len(all_.table) == len(getattr(all_, names[0]))
        rows = [i for i, table in enumerate(all_.table.tolist()) if table in (3, 4)]
        assert mine.table.tolist() == [all_.table[i] - 3 for i in rows] and rows
        for name in names:
            assert list(getattr(mine, name)) == [getattr(all_, name)[i] for i in rows]
    other = SceneSource(worlds=4)
    again = other.batch(20, 6, 3, questions_per_table=4, captions=True)
    other.close()
    assert (again.told.sentences, again.told.false) == (whole.told.sentences, whole.told.false)
    assert (again.asked.questions, again.asked.answers) == (whole.asked.questions, whole.asked.answers)
    assert again.told.table.tolist() == whole.told.table.tolist() == list(range(6))


def test_a_negative_number_of_questions_is_refused(source: SceneSource) -> None:
    with pytest.raises(ValueError, match="with 1 sentences and -1 questions"):
        source.batch(0, 1, 1, questions_per_table=-1)

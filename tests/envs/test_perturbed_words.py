"""Rewritten instructions: decent English that means the same."""

import re
from collections import Counter
from itertools import product

import pytest
import torch

from envs.perturbations import Perturbation
from envs.perturbations.perturber import Perturber
from envs.perturbations.spec import Rewrite
from envs.perturbations.wording import rewrite
from envs.perturbations.words import ADDRESSED, DEEDS, POLITE, THINGS, WORDY
from envs.props.colours import COLOURS
from envs.random import EpisodeRandom
from envs.spaces import _CHARSET, MAX_INSTRUCTION_CHARACTERS
from envs.suites import SUITES
from envs.tasks import TASKS, make_task
from envs.tasks.chains import CHAINS

SYNONYMS, FORMS = (0.0, 0.5), (0.0, 0.25, 0.5, 0.75)
SMALL = {"the", "a", "it", "its", "to", "of", "in", "on", "into", "onto", "off", "up", "so", "that", "is", "with", "by"}
"""Words that may come twice in a clause."""


@pytest.fixture(scope="module")
def sentences():
    """What all tasks, suites and chains say in both splits, in one colouring each."""
    found = {}
    tasks = [*map(make_task, TASKS), *(task for suite in SUITES.values() for task in suite.tasks), *CHAINS.values()]
    for task in tasks:
        seeds = torch.arange(30 if task.stages > 1 else 200)
        layout = task.sample(EpisodeRandom(seeds))
        for split in ("train", "held_out"):
            for sentence in task.instructions(layout, split):
                found.setdefault(re.sub("|".join(COLOURS), "#", sentence), sentence)
    return list(found.values())


def words(sentence):
    return re.findall(r"[\w-]+", sentence)


def test_every_phrase_of_the_lists_occurs_and_every_request_is_reworded(sentences):
    for phrase in THINGS | DEEDS:
        pattern = re.escape(phrase).replace("…", r"(the(?: \w+){0,3}?|it)")
        assert any(re.search(rf"\b{pattern}\b", sentence) for sentence in sentences), phrase
    for sentence, draw in product(sentences, SYNONYMS):
        other_nouns, other_verbs = (rewrite(sentence, Rewrite(level=level), (draw, 0, 0, 0)) for level in (3, 4))
        assert other_nouns != other_verbs, sentence


@pytest.mark.parametrize("level", [1, 2, 3, pytest.param(4, marks=pytest.mark.slow), 5])
def test_rewritten_sentences_repeat_no_word_and_keep_their_meaning(sentences, level):
    # The forms around a request do not depend on it: all pairs of them meet, over the sentences.
    for i, (sentence, draw, polite) in enumerate(product(sentences, SYNONYMS, FORMS)):
        around = FORMS[(i // len(FORMS) + i) % len(FORMS)]
        new = rewrite(sentence, Rewrite(level=level), (draw, polite, around, 0))
        assert new != sentence and set(new) <= set(_CHARSET) and not re.search(r"[{}…]|  ", new), new
        assert len(new) <= MAX_INSTRUCTION_CHARACTERS or len(sentence) > MAX_INSTRUCTION_CHARACTERS / 3, new
        assert [word for word in words(new) if word in COLOURS] == [w for w in words(sentence) if w in COLOURS]
        often = max(_repeats(sentence), 1)
        assert _repeats(new) <= often, new
        for noun in set(words(sentence)) & set(THINGS):
            kept = (noun,) if level < 3 else THINGS[noun]
            assert any(synonym in new for synonym in kept), (noun, new)


def _repeats(sentence):
    """How often the most frequent word of any clause occurs in it, small words aside."""
    clauses = re.split(r"[,;:]|\band\b|\bthen\b", sentence)
    counts = [count for clause in clauses for word, count in Counter(words(clause)).items() if word not in SMALL]
    return max(counts)


def test_replaced_text_is_not_replaced_again():
    """Two synonyms of words that are words themselves: with two passes, "push" would become "press", then "push"."""

    def reworded(sentence, draw=0.0):
        return rewrite(sentence, Rewrite(level=4), (draw, 0, 0, 0)).rpartition("please ")[2]

    assert reworded("pick up the red cube") == "fetch the red block"
    assert reworded("stand the red block upright", 0.5) == "tip the red brick upright"
    assert reworded("reach out to the red cube", 0.5) == "extend the arm to the red die"
    assert reworded("pull out the green drawer") == "draw out the green compartment"
    assert reworded("push the red button") == "press the red switch"
    assert reworded("press the red button") == "push the red switch"
    assert reworded("open the drawer, then push the drawer shut") == (
        "pull open the compartment, then shove the compartment closed"
    )
    assert "displace" in reworded("displace the cupboard")


def test_statements_become_requests():
    for level in range(1, 6):
        for polite in FORMS:
            new = rewrite("the red peg goes into the white socket", Rewrite(level=level), (0, polite, 0, 0))
            assert "see to it that the red p" in new


def test_training_lists_share_nothing_with_test_lists():
    for lists in (POLITE, ADDRESSED):
        assert not set(lists["test"]) & set(lists["training"])
    frames = [*POLITE["test"], *ADDRESSED["test"], *WORDY]
    new_words = {word for frame in frames for word in words(frame)} - {"0"} - SMALL
    known = {word for lists in (POLITE, ADDRESSED) for frame in lists["training"] for word in words(frame)} - SMALL
    assert len(new_words & known) < len(new_words) / 3
    with pytest.raises(ValueError, match="for level, got"):
        Rewrite(level=3, words="training")
    training = Rewrite(level=(1, 2), words="training")
    assert {training.level_of(draw) for draw in (0.0, 0.49)} == {1} and training.level_of(0.5) == 2
    for level, draw in product((1, 2), FORMS):
        new = rewrite("pick up the red cube", Rewrite(level=level, words="training"), (0, draw, draw, 0))
        assert "pick up the red cube" in new


def test_episodes_choose_their_words_by_their_seeds():
    task, seeds = make_task("pick"), torch.arange(40)
    perturber = Perturber(Perturbation(language=Rewrite(level=5)), task.props)
    said = perturber.rewrite(["lift the red cube"] * 40, EpisodeRandom(seeds))
    assert len(set(said)) > 10 and said == perturber.rewrite(["lift the red cube"] * 40, EpisodeRandom(seeds))

"""What the stack says to a robot is read word by word: nearly every word is one token of ``nano``."""

import re
from collections.abc import Iterator, Sequence

import pytest
import torch

from configs.wording import sentences
from envs.grounding.scenes import SceneSource
from envs.language import SPLITS, Split
from envs.perturbations.spec import Rewrite
from envs.perturbations.wording import rewrite
from envs.suites import SUITES
from envs.tasks import TASKS
from vla.backbones.tokenizer import NanoTokenizer

_PART = re.compile(r"'\w+|\w+|[^\w\s]")
"""A word, what follows its apostrophe, or a mark."""
_SAID_BY_TASKS = [*TASKS, *(name for suite in SUITES.values() for name in suite.task_names)]


def tokens_per_word(said: Sequence[str]) -> float:
    """Marks count as words; starts do not."""
    tokens = int(NanoTokenizer().encode(said)[1].sum()) - len(said)
    return tokens / sum(len(_PART.findall(sentence)) for sentence in said)


def words(said: Sequence[str]) -> list[str]:
    return sorted({word for sentence in said for word in re.findall(r"[^\W_]+", sentence.lower())})


def pieces(said: Sequence[str]) -> dict[str, int]:
    """How many tokens each word has, said alone."""
    found = words(said)
    return dict(zip(found, (NanoTokenizer().encode(found)[1].sum(1) - 1).tolist(), strict=True))


@pytest.fixture(scope="module")
def by_tasks() -> dict[Split, list[str]]:
    return {split: [text for name in _SAID_BY_TASKS for text in sentences(name, (split,))] for split in SPLITS}


def reworded(said: Sequence[str]) -> Iterator[str]:
    """Each sentence in one of the levels of rewriting."""
    draws = torch.rand(len(said), 4, generator=torch.Generator().manual_seed(0)).tolist()
    for i, (text, (one, two, three, four)) in enumerate(zip(said, draws, strict=True)):
        yield rewrite(text, Rewrite(level=1 + i % 5), (one, two, three, four))


def test_all_that_tasks_say_in_training_is_one_token_a_word(by_tasks: dict[Split, list[str]]) -> None:
    said = by_tasks["train"]
    assert len(said) > 2000 and len(words(said)) > 100
    assert tokens_per_word(said) == 1 and set(pieces(said).values()) == {1}


def test_what_tasks_say_in_evaluation_is_hardly_longer(by_tasks: dict[Split, list[str]]) -> None:
    said = [*by_tasks["held_out"], *reworded(by_tasks["held_out"])]
    assert len(said) > 4000 and len(words(said)) > 200
    assert tokens_per_word(said) < 1.02 and max(pieces(said).values()) <= 3


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_said_of_tables_is_one_token_a_word(split: Split) -> None:
    source = SceneSource(split=split, worlds=32)
    said = source.batch(0, 64, 8).sentences
    source.close()
    assert len(said) > 400 and len(words(said)) > 100
    assert tokens_per_word(said) < 1.02 and max(pieces(said).values()) <= (1 if split == "train" else 3)

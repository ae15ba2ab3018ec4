"""Lessons of a sentence encoder: what is said about tables, and the teacher's vectors for it, made once."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from envs.specs import Grounding
from policies.pretraining.scenes import Request, Scenes, Split
from policies.progress import progress_bar
from vla.checkpoint import write_weights
from vla.durable import write_text_atomically
from vla.sentence_encoder import SentenceEncoder
from vla.strict_json import strict_json

LESSON_SEEDS = 2**31
"""Tables from here on give sentences to the teacher; none of them is learned from or evaluated on."""
HELD_OUT_LESSONS = 512
_TABLES, _SENTENCES, _QUESTIONS = 32, 8, 4
_TIRED = 8
"""After so many batches of tables of which nothing new was said, there is no more to say."""
_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Taught:
    """Sentences, and the teacher's unit vectors for them: ``held_out`` ones are in words that are never learned."""

    sentences: tuple[str, ...]
    embedding: Float[Tensor, "n e"]
    held_out: tuple[str, ...]
    held_out_embedding: Float[Tensor, "m e"]
    fingerprint: str
    """Of the sentences and of what teaches."""


def take_lessons(
    teacher: SentenceEncoder, scenes: Scenes, count: int, more: Sequence[str], folder: Path, show_progress: bool
) -> Taught:
    """Up to ``count`` sentences, with the teacher's vectors for them: of ``more``, at most a quarter of all, and then
    what is said of scenes.

    The vectors are kept in ``folder``, beside a list of the sentences, and read from there the next time.
    """
    more = more[: count // 4]
    with progress_bar(show_progress) as progress:
        bar = progress.add_task("sentences", total=count, note="")
        sentences = said_of(scenes, "train", count, more, lambda found: progress.update(bar, completed=found))
        progress.update(bar, total=len(sentences), completed=len(sentences))
    held_out = said_of(scenes, "held_out", min(count, HELD_OUT_LESSONS))
    every = (*sentences, *held_out)
    about = strict_json([teacher.fingerprint, len(sentences), every])
    fingerprint = hashlib.sha256(about.encode()).hexdigest()
    embedding = _kept(teacher, every, folder / f"teacher-{fingerprint[:16]}", show_progress)
    return Taught(
        sentences=sentences,
        embedding=embedding[: len(sentences)],
        held_out=held_out,
        held_out_embedding=embedding[len(sentences) :],
        fingerprint=fingerprint,
    )


def said_of(
    scenes: Scenes, split: Split, count: int, more: Sequence[str] = (), found: Callable[[int], None] = lambda _: None
) -> tuple[str, ...]:
    """Up to ``count`` different sentences, ``more`` first, in a fixed order; ``found`` is told how many there are."""
    said = dict.fromkeys(more)
    first, tired = LESSON_SEEDS, 0
    while len(said) < count and tired < _TIRED:
        known = len(said)
        said |= dict.fromkeys(_texts(scenes.batch(_request(split, first), _request(split, first + _TABLES))))
        first, tired = first + _TABLES, tired + 1 if len(said) == known else 0
        found(min(len(said), count))
    return tuple(said)[:count]


def _request(split: Split, first_seed: int) -> Request:
    return Request(
        split=split,
        first_seed=first_seed,
        tables=_TABLES,
        sentences_per_table=_SENTENCES,
        questions_per_table=_QUESTIONS,
        captions=True,
    )


def _texts(scenes: Grounding) -> Iterable[str]:
    yield from scenes.sentences
    yield from scenes.told.sentences
    yield from scenes.asked.questions


def _kept(teacher: SentenceEncoder, sentences: Sequence[str], path: Path, show: bool) -> Float[Tensor, "n e"]:
    """The vectors of all sentences, from ``path`` (.safetensors) where they lie there whole."""
    vectors, words = path.with_suffix(".safetensors"), path.with_suffix(".json")
    try:
        embedding = safetensors.torch.load(vectors.read_bytes())["embedding"]
        known = json.loads(words.read_text(encoding="utf-8"))
        if embedding.shape == (len(sentences), teacher.dim) and known == list(sentences):
            return embedding
    except (OSError, SafetensorError, KeyError, ValueError):
        pass
    embedding = _embedded(teacher, sentences, show)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(words, strict_json(list(sentences), indent=0) + "\n")
    write_weights(vectors, {"embedding": embedding})
    return embedding


def _embedded(teacher: SentenceEncoder, sentences: Sequence[str], show: bool) -> Float[Tensor, "n e"]:
    """In batches of about one length."""
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    embedding = torch.empty(len(sentences), teacher.dim)
    with progress_bar(show) as progress:
        bar = progress.add_task("teacher", total=len(sentences), note="")
        for first in range(0, len(order), _BATCH):
            batch = order[first : first + _BATCH]
            embedding[batch] = teacher.embed([sentences[i] for i in batch])
            progress.update(bar, advance=len(batch))
    return embedding

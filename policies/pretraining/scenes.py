"""Scenes to learn from, made by a process of its own while the network learns from those before."""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from envs.specs import Asked, EmbodimentSpec, Grounding, GroundingSource, Told

Split = Literal["train", "held_out"]
SourceFactory = Callable[[Split], GroundingSource]


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which scenes: the arguments of :meth:`envs.specs.GroundingSource.batch`, of the source of a split."""

    split: Split
    first_seed: int
    tables: int
    sentences_per_table: int
    questions_per_table: int = 0
    captions: bool = False


class Scenes(Protocol):
    """Where a learner has its scenes from."""

    embodiment: EmbodimentSpec

    def batch(self, request: Request, then: Request | None = None) -> Grounding:
        """What is asked for: a pure function of ``request``. ``then`` says what will be asked for next."""
        ...


class SceneProcess:
    """Fulfils :class:`Scenes` in a process that makes what is asked for next while the caller works.

    ``factory`` is called there, once per split that is asked for, and must be picklable. Its errors come back as
    ``RuntimeError``. The process ends with :meth:`close`, or when the caller is gone.
    """

    def __init__(self, factory: SourceFactory) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(factory, theirs), name="scenes", daemon=True)
        self._process.start()
        theirs.close()
        self._asked: Request | None = None
        try:
            self._pipe.send("train")
            self.embodiment = EmbodimentSpec.from_dict(self._answer())
        except BaseException:
            self.close()
            raise

    def batch(self, request: Request, then: Request | None = None) -> Grounding:
        if self._asked != request:
            if self._asked is not None:
                self._answer()
            self._pipe.send(request)
        self._asked = None
        answer = self._answer()
        if then is not None:
            self._pipe.send(then)
            self._asked = then
        return _changed(answer, lambda value: torch.from_numpy(value) if isinstance(value, np.ndarray) else value)

    def close(self) -> None:
        """Stop the process; safe to call twice."""
        self._pipe.close()
        self._process.terminate()
        self._process.join()

    def __enter__(self) -> "SceneProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(
                f"the process that makes the scenes has ended, with exit code {self._process.exitcode}"
            ) from None
        if isinstance(answer, _Failure):
            error = RuntimeError(f"the process that makes the scenes cannot: {answer.message}")
            error.add_note(answer.trace)
            raise error
        return answer


@dataclass(frozen=True)
class _Failure:
    message: str
    trace: str


def _serve(factory: SourceFactory, pipe: Connection) -> None:
    """Answer requests, and the name of a split with its embodiment, until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the learner says when it is over
    torch.set_num_threads(1)
    sources: dict[Split, GroundingSource] = {}
    try:
        while True:
            pipe.send(_answered(factory, sources, pipe.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        for source in sources.values():
            source.close()
        os._exit(0)  # nobody waits for what is left


def _answered(factory: SourceFactory, sources: dict[Split, GroundingSource], asked: Split | Request) -> Any:
    try:
        split = asked.split if isinstance(asked, Request) else asked
        if split not in sources:
            sources[split] = factory(split)
        if not isinstance(asked, Request):
            return sources[split].embodiment.to_dict()
        wanted = (asked.sentences_per_table, asked.questions_per_table, asked.captions)
        made = sources[split].batch(asked.first_seed, asked.tables, *wanted)
        return _changed(made, lambda value: value.numpy(force=True) if isinstance(value, Tensor) else value)
    except Exception as error:
        return _Failure(f"{type(error).__name__}: {error}", traceback.format_exc())


_Record = TypeVar("_Record", bound=Grounding | Told | Asked)


def _changed(record: _Record, change: Callable[[Any], Any]) -> _Record:
    """With every field changed, and those of the records within."""
    fields = vars(record).items()
    return replace(record, **{k: _changed(v, change) if isinstance(v, Told | Asked) else change(v) for k, v in fields})

"""One thread that answers requests in batches, and that a program can end without."""

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

Q = TypeVar("Q")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Gathering:
    """How requests are gathered to be answered together: ``largest`` at most, for which the oldest of them waits
    ``wait_s`` at most.
    """

    largest: int = 1
    wait_s: float = 0.0

    def __post_init__(self) -> None:
        if self.largest < 1 or not 0 <= self.wait_s < float("inf"):
            raise ValueError(f"expected largest at least 1 and wait_s finite and at least 0, got {self}")

    def left_s(self, waiting: int, clients: int, waited_s: float) -> float:
        """How long the oldest of ``waiting`` requests, which has ``waited_s`` behind it, is still to wait for others.

        Not at all once a batch is full, or everyone has asked: each of ``clients`` has one request at a time.
        """
        return 0.0 if waiting >= min(self.largest, clients) else max(self.wait_s - waited_s, 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Request(Generic[Q, R]):
    content: Q
    kind: Hashable
    asked_s: float
    future: "Future[R]"


class BatchWorker(Generic[Q, R]):
    """Answers requests in its own thread: the oldest first, together with the next ones of its kind.

    ``work`` is given the contents of one batch and returns an answer or an exception for each; what it raises is every
    one's. Unlike the threads of a ``ThreadPoolExecutor`` this one does not keep the program alive: work that never
    returns cannot stop a server from being ended.
    """

    def __init__(self, name: str, work: Callable[[list[Q]], list[R | Exception]], gathering: Gathering) -> None:
        self._work = work
        self._gathering = gathering
        self._waiting: list[_Request[Q, R]] = []
        self._clients = 0
        self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        with self._changed:
            return sum(not request.future.cancelled() for request in self._waiting)

    def submit(self, content: Q, kind: Hashable = None) -> "Future[R]":
        """Queue a request; its answer or error comes in the future, which can be cancelled until the work begins."""
        future: Future[R] = Future()
        with self._changed:
            # those who left are dropped here too: while the work is stuck, nobody takes from the queue
            self._waiting = [request for request in self._waiting if not request.future.cancelled()]
            self._waiting.append(_Request(content=content, kind=kind, asked_s=time.monotonic(), future=future))
            self._changed.notify()
        return future

    def expect(self, more: int) -> None:
        """So many ``more`` clients may ask (fewer if negative): nobody waits for those who have left."""
        with self._changed:
            self._clients += more
            self._changed.notify()

    def close(self) -> None:
        """Let the thread end after what has been queued; does not wait for it."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            begun = [request for request in batch if request.future.set_running_or_notify_cancel()]
            if begun:
                self._answer(begun)
            del batch, begun

    def _next(self) -> list[_Request[Q, R]] | None:
        """The next batch, out of the queue; None at the end. Who cancelled is neither counted nor waited for."""
        with self._changed:
            while True:
                self._waiting = [request for request in self._waiting if not request.future.cancelled()]
                if not self._waiting and self._closed:
                    return None
                left_s = None
                if self._waiting:
                    waited_s = time.monotonic() - self._waiting[0].asked_s
                    left_s = self._gathering.left_s(len(self._waiting), self._clients, waited_s)
                    if self._closed or left_s <= 0:
                        return self._taken()
                self._changed.wait(left_s)

    def _taken(self) -> list[_Request[Q, R]]:
        alike = [request for request in self._waiting if request.kind == self._waiting[0].kind]
        batch = alike[: self._gathering.largest]
        self._waiting = [request for request in self._waiting if request not in batch]
        return batch

    def _answer(self, batch: list[_Request[Q, R]]) -> None:
        try:
            answers = self._work([request.content for request in batch])
        except BaseException as error:
            for request in batch:
                request.future.set_exception(error)
            return
        for request, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                request.future.set_exception(answer)
            else:
                request.future.set_result(answer)

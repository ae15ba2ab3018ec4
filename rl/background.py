"""Collects in a thread of its own, while the learner learns: ahead of it, by so many iterations and no more.

A thread, not a process: physics, rendering and torch's operations let others work meanwhile, what is collected need not
be copied, and a GPU is used in one context.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor

from rl.episodes import Finished
from rl.rollout import Judged, Rollout, Stopwatch

_LOOK_EVERY_S = 0.5
"""How often who waits looks whether the other one still lives."""


class CollectorError(RuntimeError):
    """What collects has failed, has ended or gives no sign of life; says which one, where and why."""


class Order(NamedTuple):
    """How to collect from now on: with ``weights`` by name, those after ``version`` iterations, and how often each task
    is to be drawn. A policy of one's own needs no weights.
    """

    version: int
    weights: Mapping[str, Tensor]
    task_weights: Sequence[float] | None


class Collected(NamedTuple):
    """A rollout, the episodes that ended in it, what rewards thought of them, and the seconds that its parts took."""

    rollout: Rollout
    finished: list[Finished]
    judged: list[Judged]
    seconds: Mapping[str, float]


class _StoppedError(Exception):
    """The learner wants no more."""


class BackgroundCollector:
    """Calls ``collect`` for the iterations ``first … end − 1``, one after another, each with the newest order.

    An iteration begins when there is an order at most ``staleness`` versions old; so what the learner takes was
    collected by a policy that is at most that old. ``patience_s`` is how long it may give no sign of life. Methods are
    for the learner's thread, and raise :class:`CollectorError` as soon as the other one has failed.
    """

    def __init__(
        self,
        collect: Callable[[int, Order, Stopwatch], Collected],
        *,
        first: int,
        end: int,
        staleness: int,
        patience_s: float,
        device: torch.device,
        name: str,
    ) -> None:
        self._collect, self._end, self._staleness = collect, end, staleness
        self._patience_s, self._device, self._name = patience_s, device, name
        self._changed = threading.Condition()
        self._next, self._ready = first, deque[Collected]()
        self._waiting = self._over = self._stopping = False
        self._order: Order | None = None
        self._error: BaseException | None = None
        self._seen_s = time.monotonic()
        threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._work, args=(threads,), name=name, daemon=True)
        self._thread.start()

    def order(self, order: Order) -> None:
        """Collect with it from the next iteration on."""
        with self._changed:
            self._check()
            self._order = order
            self._seen_s = time.monotonic()
            self._changed.notify_all()

    def take(self) -> Collected:
        """The oldest that was collected and not taken; waits for it."""
        with self._changed:
            self._until(lambda: bool(self._ready))
            return self._ready.popleft()

    def rest(self) -> None:
        """Wait until it waits for an order, or has done them all: then its worlds stand still."""
        with self._changed:
            self._until(lambda: self._over or (self._waiting and not self._may_begin()))

    def close(self) -> None:
        """End it, between two of its decisions; after ``patience_s`` it is left alone."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(self._patience_s)

    def _until(self, done: Callable[[], bool]) -> None:
        while True:
            self._check()
            if done():
                return
            if self._over:
                raise CollectorError(f"{self._name} has collected all {self._end} iterations; there is nothing to take")
            self._changed.wait(_LOOK_EVERY_S)

    def _check(self) -> None:
        where = f"{self._name}, in iteration {self._next + 1},"
        if self._error is not None:
            kind = type(self._error).__name__
            raise CollectorError(f"{where} failed: {kind}: {self._error}") from self._error
        silent_s = time.monotonic() - self._seen_s
        if not (self._waiting or self._over) and silent_s > self._patience_s:
            raise CollectorError(
                f"{where} has given no sign of life for {silent_s:.1f} s; a decision that may take longer needs a "
                f"larger patience_s (now {self._patience_s:g})"
            )

    def _work(self, threads: int) -> None:
        torch.set_num_threads(threads)
        try:
            with suppress(_StoppedError):
                while self._next < self._end:
                    order = self._permission()
                    collected = self._collect(self._next, order, Stopwatch(self._device, self._live))
                    with self._changed:
                        self._next += 1
                        self._ready.append(collected)
                        self._changed.notify_all()
        except BaseException as error:  # whatever it is, the learner is to know
            self._error = error
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _permission(self) -> Order:
        """Wait for an order that is new enough."""
        with self._changed:
            self._waiting = True
            while not self._may_begin():
                self._live()
                self._changed.wait(_LOOK_EVERY_S)
            self._waiting = False
            self._live()
            assert self._order is not None
            return self._order

    def _may_begin(self) -> bool:
        return self._order is not None and self._next - self._order.version <= self._staleness

    def _live(self) -> None:
        """A sign of life; ends the thread where that is wanted."""
        self._seen_s = time.monotonic()
        if self._stopping:
            raise _StoppedError

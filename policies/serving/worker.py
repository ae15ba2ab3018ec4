"""One thread that does one piece of work after the other, and that a program can end without."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

R = TypeVar("R")


class Worker(Generic[R]):
    """Runs what it is given in its own thread, first come, first served.

    Unlike the threads of a ``ThreadPoolExecutor`` this one does not keep the program alive: work that never returns
    cannot stop a server from being ended.
    """

    def __init__(self, name: str) -> None:
        self._waiting: queue.SimpleQueue[tuple[Future[R], Callable[[], R]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, work: Callable[[], R]) -> "Future[R]":
        """Queue ``work``; its result or error comes in the future, which can be cancelled until it begins."""
        future: Future[R] = Future()
        self._waiting.put((future, work))
        return future

    def close(self) -> None:
        """Let the thread end after what has been queued; does not wait for it."""
        self._waiting.put(None)

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            future, work = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
            del future, work, item

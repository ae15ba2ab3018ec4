"""The processes that draw for all environments of this one: started when first needed, replaced when they fail."""

import atexit
import contextlib
import itertools
import json
import logging
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np

from envs.backends.canvas import Canvas
from envs.backends.render_worker import MESSAGE_BYTES
from envs.forking import check_not_inherited
from envs.graphics import wanted_backend

ATTEMPTS = 3
"""How often in a row a share of a drawing may take its process down before that becomes an error."""
_END_S = 2.0
_PROGRAM = (
    "import json, signal, sys; "
    # What asks a whole group of processes to end is for the parent to answer; this one ends with it.
    "[signal.signal(each, signal.SIG_IGN) for each in (signal.SIGINT, signal.SIGTERM)]; "
    "sys.path[:] = json.loads(sys.argv[3]); "
    "from envs.backends.render_worker import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)
logger = logging.getLogger(__name__)


class RenderWorkerError(RuntimeError):
    """Processes that draw died or hung several times in a row over one and the same drawing."""


class _WorkerLostError(Exception):
    """The process is dead or hangs; says which."""


class Worker:
    """One process that draws, seen from here. Used by one thread at a time, except for :meth:`forget`."""

    def __init__(self) -> None:
        wanted_backend()  # the process could not say what is wrong: it would fail at its imports
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._socket.setblocking(False)
            arguments = (str(theirs.fileno()), str(os.getpid()), json.dumps(sys.path, allow_nan=False))
            self.process = subprocess.Popen(
                (sys.executable, "-c", _PROGRAM, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self._writable.register(self._socket, select.POLLOUT)
        self.known: set[int] = set()
        self._to_forget: list[int] = []
        self.busy = False

    def submit(self, canvas: Canvas, share: tuple[int, int], limit_s: float) -> None:
        """Have a share of the canvas's order drawn; whether that went well is for :meth:`finish` to say."""
        number = canvas.plan.number
        canvas.progress[share[0]] = 0
        self.busy = True
        forget, self._to_forget = self._to_forget, []
        if forget:
            self._send(("forget", *forget), limit_s=limit_s)
        if number not in self.known:
            self._send(("open", canvas.plan), canvas.descriptor, limit_s=limit_s)
            self.known.add(number)
        self._send(("draw", number, *share), limit_s=limit_s)

    def finish(self, canvas: Canvas, share: tuple[int, int], limit_s: float) -> Exception | None:
        """Wait for what was submitted and return what it raised; ``_WorkerLostError`` if no further world was drawn
        for ``limit_s`` seconds.
        """
        drawn = 0
        while not self._readable.poll(limit_s * 1000):
            if canvas.progress[share[0]] == drawn:
                raise _WorkerLostError(f"drew nothing for {limit_s:g} s")
            drawn = canvas.progress[share[0]]
        try:
            answer = self._socket.recv(MESSAGE_BYTES)
        except OSError:
            answer = b""
        if not answer:
            raise _WorkerLostError(self._how_it_died())
        self.busy = False
        error, warnings = pickle.loads(answer)
        for text in warnings:
            logger.debug("MuJoCo: %s", text)
        return error

    def forget(self, number: int) -> None:
        """Have a canvas freed, if the process knows it."""
        if number in self.known:
            self.known.discard(number)
            if not self._send(("forget", number)):
                self._to_forget.append(number)

    def end(self) -> None:
        """Close the socket, at which an idle process ends; kill one that does not."""
        self._socket.close()
        if self.busy:
            self.process.kill()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process at once."""
        self._socket.close()
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel; it will be gone when that lets go
            self.process.wait(_END_S)

    def leave(self) -> None:
        """Close this process's end without ending the other process: it belongs to the process this one forked from."""
        self._socket.close()

    def _send(self, message: tuple, *descriptors: int, limit_s: float = 0.0) -> bool:
        """Whether the message went off; if it did not, the process is dead or takes nothing, and will not answer."""
        parts = [pickle.dumps(message)]
        with contextlib.suppress(OSError):
            try:
                socket.send_fds(self._socket, parts, descriptors)
            except BlockingIOError:
                if not limit_s or not self._writable.poll(limit_s * 1000):
                    return False
                socket.send_fds(self._socket, parts, descriptors)
            return True
        return False

    def _how_it_died(self) -> str:
        try:
            code = self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "closed its socket"
        return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


class RenderPool:
    """Workers that are lent to one drawing at a time; safe to use from several threads, and in this process alone."""

    def __init__(self) -> None:
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._owner = os.getpid()

    @property
    def pids(self) -> list[int]:
        """Of the processes that live now, as far as is known."""
        return sorted(worker.process.pid for worker in self._all)

    def draw(self, canvas: Canvas, worlds: np.ndarray, most_workers: int, limit_s: float) -> None:
        """Draw ``worlds`` from the canvas's ``qpos`` and ``fields`` into its pictures, on up to ``most_workers``.

        A worker that dies, or that draws no world within ``limit_s`` seconds, is replaced, and its share drawn again;
        ``RenderWorkerError`` when that fails :data:`ATTEMPTS` times. What drawing itself raises is raised here.
        """
        self._check_mine()
        canvas.order[: len(worlds)] = worlds
        with self._lent(min(most_workers, len(worlds)), canvas.plan.number) as workers:
            bounds = np.linspace(0, len(worlds), len(workers) + 1).astype(int).tolist()
            shares = dict(enumerate(itertools.pairwise(bounds)))
            for _ in range(ATTEMPTS):
                shares, why = self._try(canvas, shares, workers, limit_s)
                if not shares:
                    return
        raise RenderWorkerError(
            f"{ATTEMPTS} render processes in a row failed at the same picture; the last one {why}. Does the driver "
            "work (vla doctor)? A slow machine may need a longer render_limit_s"
        )

    def forget(self, canvas: Canvas) -> None:
        """Free a canvas in all workers and here; what looks into it keeps its memory."""
        self._check_mine()
        with self._changed:
            for worker in self._all:
                worker.forget(canvas.plan.number)
        os.close(canvas.descriptor)

    def close(self) -> None:
        """End all workers; those that are at work are killed."""
        self._check_mine()
        with self._changed:
            self._closed = True
            workers, self._all, self._idle = self._all, set(), []
            self._changed.notify_all()
        for worker in workers:
            worker.leave()
        for worker in workers:
            worker.end()

    def leave(self) -> None:
        """In a forked child: let go of the parent's workers."""
        for worker in self._all:
            worker.leave()

    def _try(
        self, canvas: Canvas, shares: dict[int, tuple[int, int]], workers: list[Worker], limit_s: float
    ) -> tuple[dict[int, tuple[int, int]], str]:
        """Draw ``shares``, one per place in ``workers``, and replace who fails; what is left to do, and why."""
        for place, share in shares.items():
            workers[place].submit(canvas, share, limit_s)
        left, errors, why = {}, [], ""
        for place, share in shares.items():
            try:
                errors.append(workers[place].finish(canvas, share, limit_s))
            except _WorkerLostError as lost:
                why = str(lost)
                logger.warning("render process %d %s; another one draws again", workers[place].process.pid, why)
                self._discard(workers[place])
                workers[place] = self._start()
                left[place] = share
        for error in filter(None, errors):
            raise error
        return left, why

    @contextlib.contextmanager
    def _lent(self, count: int, number: int) -> Iterator[list[Worker]]:
        """At least one worker and up to ``count``, preferably those that know canvas ``number``."""
        workers = self._borrow(count, number)
        try:
            yield workers
        finally:
            for worker in workers:
                if worker.busy:  # the drawing was broken off
                    self._discard(worker)
            with self._changed:
                self._idle += [worker for worker in workers if worker in self._all]
                self._changed.notify_all()

    def _borrow(self, count: int, number: int) -> list[Worker]:
        limit = max(count, len(os.sched_getaffinity(0)))
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._idle or len(self._all) < limit)
            self._check_open()
            self._idle.sort(key=lambda worker: number in worker.known)
            workers = [self._idle.pop() for _ in range(min(count, len(self._idle)))]
            try:
                while len(workers) < count and len(self._all) < limit:
                    workers.append(self._start())
            except BaseException:
                self._idle += workers
                raise
            return workers

    def _start(self) -> Worker:
        with self._changed:
            self._check_open()
            worker = Worker()
            self._all.add(worker)
            return worker

    def _check_mine(self) -> None:
        check_not_inherited("this pool of render processes", self._owner)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the program is ending; nothing can be drawn any more")

    def _discard(self, worker: Worker) -> None:
        with self._changed:
            self._all.discard(worker)
        worker.kill()


_pool = RenderPool()
atexit.register(lambda: _pool.close())


def render_pool() -> RenderPool:
    """The pool of this process."""
    return _pool


def _renew_in_child() -> None:
    global _pool
    inherited, _pool = _pool, RenderPool()
    inherited.leave()


os.register_at_fork(after_in_child=_renew_in_child)

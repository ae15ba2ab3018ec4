"""A worker process in another Python, seen from the program that started it."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from envs.simulators.worker.memory import CLOCK, STEPS
from envs.simulators.worker.messages import receive, send

PACKAGE = Path(__file__).with_name("worker")
_END_S = 2.0
_SAID_CHARACTERS = 2000
_MOST_LOG_BYTES = 1 << 20
_PROGRAM = (
    "import importlib.util, sys; "
    "spec = importlib.util.spec_from_file_location('vla_worker', sys.argv[1] + '/__init__.py', "
    "submodule_search_locations=[sys.argv[1]]); "
    "sys.modules['vla_worker'] = package = importlib.util.module_from_spec(spec); "
    "spec.loader.exec_module(package); "
    "from vla_worker.program import main; main(*map(int, sys.argv[2:]))"
)
"""Loads the package under a name of its own, so that no folder of ours gets on the path of another project's Python."""


@dataclass(frozen=True, kw_only=True)
class Simulator:
    """Where another project's worlds live: the Python that has the simulator, and the file with ``make_world``.

    ``variables`` are added to the environment of its processes. ``limit_s`` is how long a world may take for one
    control step, reset or observation before its process counts as hung, and ``make_limit_s`` for being made.
    """

    python: Path
    file: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    limit_s: float = 120.0
    make_limit_s: float = 600.0

    def __post_init__(self) -> None:
        for name in ("limit_s", "make_limit_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")


class WorkerLostError(RuntimeError):
    """The process is dead, hangs, or answers nonsense; says which."""


class WorldError(RuntimeError):
    """A world raised an exception: the simulator's own text."""


class WorkerProcess:
    """One process that plays ``worlds``; it is asked, and after that waited for.

    It holds one end of a socket pair and the block of shared memory, both inherited, and nothing that anybody else
    could find. It ends when this program does, however that ends.
    """

    def __init__(
        self, simulator: Simulator, memory: int, arrays: Mapping[str, np.ndarray], worlds: Sequence[int]
    ) -> None:
        self.worlds = tuple(worlds)
        self._clock, self._steps = arrays[CLOCK], arrays[STEPS]
        self._log = tempfile.TemporaryFile("a+b", buffering=0)  # noqa: SIM115
        self._connection, theirs = socket.socketpair()
        with theirs:
            inherited = theirs.fileno(), memory
            arguments = (str(PACKAGE), *map(str, inherited), str(os.getpid()))
            self.process = subprocess.Popen(
                (str(simulator.python), "-I", "-c", _PROGRAM, *arguments),
                env={**os.environ, **simulator.variables},
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=inherited,
            )
        self._ticks, self._ticked_s = self._ticks_now(), time.monotonic()
        self.busy = False

    @property
    def pid(self) -> int:
        return self.process.pid

    def ask(self, request: Mapping[str, Any], limit_s: float) -> None:
        """Send a request; :class:`WorkerLostError` if nobody takes it."""
        self._shorten_log()
        self._ticks, self._ticked_s = self._ticks_now(), time.monotonic()
        self._connection.settimeout(limit_s)
        self.busy = True
        try:
            send(self._connection, dict(request))
        except OSError as error:
            raise WorkerLostError(self._how_it_died()) from error

    def answered(self, readable: bool, limit_s: float) -> dict[str, Any] | None:
        """The answer, None where it is still being worked on.

        :class:`WorkerLostError` if the process died, or did nothing for ``limit_s`` seconds; :class:`WorldError` for
        what a world raised.
        """
        if readable:
            try:
                answer = receive(self._connection)
            except OSError as error:
                raise WorkerLostError(f"{self._how_it_died()} ({error})") from error
            if answer is None:
                raise WorkerLostError(self._how_it_died())
            self.busy = False
            if "failed" in answer:
                raise WorldError(str(answer["failed"]))
            return answer
        ticks, now_s = self._ticks_now(), time.monotonic()
        if ticks != self._ticks:
            self._ticks, self._ticked_s = ticks, now_s
        elif now_s - self._ticked_s > limit_s:
            raise WorkerLostError(f"did nothing for {limit_s:g} s")
        return None

    def fileno(self) -> int:
        """Of the socket that its answers come from."""
        return self._connection.fileno()

    def dismiss(self) -> None:
        """Close the socket, at which an idle process ends; kill one that is at work."""
        self._connection.close()
        if self.busy:
            self.process.kill()

    def end(self) -> None:
        """Wait until a dismissed process has ended, and kill one that does not."""
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._bury()

    def kill(self) -> None:
        """End the process at once."""
        self._connection.close()
        self.process.kill()
        self._bury()

    def said(self) -> str:
        """The last of what the process wrote to its standard output and error."""
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), _SAID_CHARACTERS, max(0, size - _SAID_CHARACTERS))
        return text.decode(errors="replace").strip()

    def _bury(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel; it will be gone when that lets go
            self.process.wait(_END_S)
        self._log.close()

    def _ticks_now(self) -> int:
        return int(self._clock[list(self.worlds)].sum())

    def _shorten_log(self) -> None:
        if os.fstat(self._log.fileno()).st_size > _MOST_LOG_BYTES:
            os.ftruncate(self._log.fileno(), 0)

    def _how_it_died(self) -> str:
        try:
            code = self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "closed its socket"
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        said = self.said()
        return f"{how}; it said: {said}" if said else how

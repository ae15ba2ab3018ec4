"""The program of a worker: it makes some worlds, plays them on request, and ends when who asks is gone.

Requests (JSON; w is a world's number): ``{"make": [[w, settings], …], "file": …, "slots": […]}`` ·
``{"reset": [[w, stream, seed], …], "observe": bool}`` · ``{"step": [[w, [action, …]], …], "observe": bool}`` ·
``{"expert": [[w], …]}``. Each is answered with ``{"worlds": [[w, …], …]}``: for ``make`` what the world tells of
itself, for ``reset`` the instruction and the goal, for ``step`` rewards, whether the episode is over, and whether it is
solved, for ``expert`` what its demonstrator would do now; or with ``{"failed": text}``, where a world raised an
exception. What is observed is written into shared memory.
"""

import contextlib
import importlib.util
import os
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from .memory import AT_WORK, CLOCK, STEPS, Slot, views
from .messages import receive, send

_PARENT_CHECK_S = 0.5
_ERROR_CHARACTERS = 4000


class Host:
    """The worlds of one worker, by number, and the shared memory that they are observed into."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._worlds: dict[int, Any] = {}
        self._arrays: dict[str, np.ndarray] = {}
        self._over: dict[int, tuple[bool, bool]] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked."""
        if "make" in request:
            self._arrays = views(self._descriptor, [Slot.from_json(slot) for slot in request["slots"]])
            return {"worlds": self._make(Path(request["file"]), request["make"])}
        if "expert" in request:
            return {"worlds": [[number, self._expert(number)] for (number,) in request["expert"]]}
        played = self._reset(request["reset"]) if "reset" in request else self._step(request["step"])
        if request["observe"]:
            for world, *_ in played:
                self._observe(world)
        return {"worlds": played}

    def close(self) -> None:
        """Free the simulators."""
        for world in self._worlds.values():
            world.close()

    def _make(self, file: Path, wanted: list[list[Any]]) -> list[list[Any]]:
        make_world = _loaded(file).make_world
        for world, settings in wanted:
            self._worlds[world] = make_world(**settings)
            self._tick(world)
        return [[world, getattr(self._worlds[world], "about", {})] for world, _ in wanted]

    def _reset(self, wanted: list[list[Any]]) -> list[list[Any]]:
        told = []
        for number, stream, seed in wanted:
            world = self._at(number)
            self._arrays[STEPS][number] = 0
            world.reset(stream, seed)
            self._over[number] = False, False
            self._tick(number)
            told.append([number, world.instruction, world.goal])
        return told

    def _step(self, wanted: list[list[Any]]) -> list[list[Any]]:
        """Play each world's chunk until it or the episode is over."""
        told = []
        for number, actions in wanted:
            world, rewards = self._at(number), []
            for action in actions:
                if any(self._over[number]):
                    break
                reward, over, solved = world.step(np.asarray(action, np.float64))
                rewards.append(float(reward))
                self._over[number] = bool(over), bool(solved)
                self._arrays[STEPS][number] += 1
                self._tick(number)
            told.append([number, rewards, *self._over[number]])
        return told

    def _expert(self, number: int) -> list[float]:
        action = np.asarray(self._at(number).expert_action(), np.float64)
        self._tick(number)
        return action.tolist()

    def _observe(self, number: int) -> None:
        for name, value in self._at(number).observe().items():
            row = self._arrays[name][number, ...]
            if np.shape(value) != row.shape or np.asarray(value).dtype != row.dtype:
                given = np.asarray(value)
                raise ValueError(
                    f"{name}: expected {row.dtype} {row.shape}, the world gave {given.dtype} {given.shape}"
                )
            row[...] = value
        self._tick(number)

    def _at(self, number: int) -> Any:
        """The world of that number, which is the one at work from now on."""
        self._arrays[AT_WORK][list(self._worlds)] = 0
        self._arrays[AT_WORK][number] = 1
        return self._worlds[number]

    def _tick(self, number: int) -> None:
        self._arrays[CLOCK][number] += 1


def _loaded(file: Path) -> Any:
    """A module of worlds, which may import those beside this one relatively."""
    name = f"{__package__}.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"expected a file of Python, got {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def serve(connection: socket.socket, host: Host) -> None:
    """Answer requests until the other side closes."""
    while (request := receive(connection)) is not None:
        try:
            answer = host.answer(request)
        except Exception:
            answer = {"failed": traceback.format_exc()[-_ERROR_CHARACTERS:]}
        send(connection, answer)


def _end_with(parent: int) -> None:
    """End this process, whatever it is at, once its parent is another: then the one that started it has died."""
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_S)
    os._exit(0)


def main(connection: int, memory: int, parent: int) -> None:
    """Run until the socket closes or process ``parent`` dies."""
    for each in (signal.SIGINT, signal.SIGTERM):  # what asks a group of processes to end is for the parent to answer
        signal.signal(each, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    host = Host(memory)
    with contextlib.suppress(ConnectionError):
        serve(socket.socket(fileno=connection), host)
        host.close()
    os._exit(0)  # without tidying up: that belongs to drivers, which may hang in it

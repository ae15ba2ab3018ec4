"""A process that draws: it waits for jobs on a socket, and ends when the program that started it does.

A fault of the OpenGL driver ends or blocks this process alone. It imports MuJoCo but not torch, so that it starts in a
fraction of a second. Drivers may not survive more than one thread anyway: Mesa's llvmpipe (22.3) searches the
unfinished drawings of all contexts of a display, without locking them, whenever one of them reads its pixels.
"""

import contextlib
import os
import pickle
import socket
import threading
import time
import traceback
from typing import Any

import mujoco

from envs.backends.canvas import Canvas
from envs.backends.gl import Renderer, make_gl_context

MESSAGE_BYTES = 1 << 16
"""Messages both ways are pickles of at most this size; what is larger lies in the canvas. They go through a socket pair
that only this process and its parent hold, so nobody else can send one."""
_PARENT_CHECK_S = 0.5


class Easel:
    """A canvas, and the model and renderer that draw on it."""

    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        self._model = canvas.load_model()
        self._renderer = Renderer(canvas.load_model(), canvas.plan.render)
        self._fields = [(getattr(self._model, name), values) for name, values in canvas.fields.items()]

    def draw(self, start: int, stop: int) -> None:
        """Draw the worlds that stand at ``start … stop`` in the canvas's order."""
        canvas = self._canvas
        self._renderer.activate()
        for drawn, world in enumerate(canvas.order[start:stop], 1):
            for own, values in self._fields:
                own[...] = values[world]
            self._renderer.draw(self._model, canvas.qpos[world], canvas.pictures.of_world(world))
            canvas.progress[start] = drawn

    def close(self) -> None:
        """Free what OpenGL holds of it."""
        self._renderer.close()


class Studio:
    """The easels of one process, in one OpenGL context, which is made for the first of them."""

    def __init__(self) -> None:
        self._gl: Any = None
        self._canvases: dict[int, Canvas] = {}
        self._easels: dict[int, Easel] = {}

    def open(self, canvas: Canvas) -> None:
        """Take a canvas in; what it needs is made with its first picture."""
        self._canvases[canvas.plan.number] = canvas

    def draw(self, number: int, start: int, stop: int) -> None:
        """Draw a share of a canvas's order."""
        if number not in self._easels:
            self._gl = self._gl or make_gl_context(1, 1)
            self._easels[number] = Easel(self._canvases[number])
        self._easels[number].draw(start, stop)

    def forget(self, *numbers: int) -> None:
        """Free canvases and all that was made for them."""
        for number in numbers:
            self._canvases.pop(number, None)
            if easel := self._easels.pop(number, None):
                easel.close()


def serve(jobs: socket.socket) -> None:
    """Do the jobs that come until the other side closes; answer each drawing with ``(exception or None, warnings)``."""
    warnings: list[str] = []
    mujoco.set_mju_user_warning(warnings.append)
    studio = Studio()
    while True:
        message, descriptors, _, _ = socket.recv_fds(jobs, MESSAGE_BYTES, 1)
        if not message:
            return
        verb, *arguments = pickle.loads(message)
        if verb == "open":
            studio.open(Canvas(*arguments, *descriptors))
            os.close(*descriptors)
        elif verb == "forget":
            studio.forget(*arguments)
        else:
            jobs.send(_answer(_attempt(studio, arguments), warnings))
            warnings.clear()


def _attempt(studio: Studio, arguments: list[int]) -> Exception | None:
    try:
        studio.draw(*arguments)
    except Exception as error:
        return error
    return None


def _answer(error: Exception | None, warnings: list[str]) -> bytes:
    """The answer as bytes; an exception that does not go into them goes as text."""
    try:
        answer = pickle.dumps((error, warnings[:20]))
        pickle.loads(answer)
    except Exception:
        answer = b""
    if 0 < len(answer) < MESSAGE_BYTES:
        return answer
    text = "".join(traceback.format_exception(error))[-MESSAGE_BYTES // 8 :]
    return pickle.dumps((RuntimeError(text) if error else None, []))


def _end_with(parent: int) -> None:
    """End this process, whatever it is at, once its parent is another: then the one that started it has died."""
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_S)
    os._exit(0)


def main(descriptor: int, parent: int) -> None:
    """Run until the socket closes or process ``parent`` dies."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with contextlib.suppress(ConnectionError):
        serve(socket.socket(fileno=descriptor))
    os._exit(0)  # without tidying up: that belongs to drivers, which may hang in it

"""What the ``vla`` command prints to: terminals of any encoding, and pipes whose reader may leave."""

import contextlib
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import TextIO

READER_LEFT = 128 + 13
"""Exit status of a command that a broken pipe ended, as shells count it: 128 and the number of SIGPIPE."""


def print_anything() -> None:
    """Have signs that the terminal's encoding lacks printed as ``?``, instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def ending_with_the_reader() -> Iterator[None]:
    """Inside, a closed pipe behind stdout or stderr becomes ``SystemExit`` with :data:`READER_LEFT`, without a word.

    Any other broken pipe, such as that of a policy server, is raised as it is.
    """
    try:
        try:
            yield
        finally:
            for stream in _streams():
                stream.flush()
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich has met it, and left with status 1
            raise SystemExit(READER_LEFT) from None
        raise
    except BrokenPipeError:
        left = streams_without_reader()
        if not left:
            raise
        for stream in left:  # what is still buffered goes nowhere, or the interpreter would complain at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise SystemExit(READER_LEFT) from None


def streams_without_reader() -> list[TextIO]:
    """Those of stdout and stderr that are pipes whose reader has closed them."""
    return [stream for stream in _streams() if _reader_left(stream)]


def _streams() -> list[TextIO]:
    """What there is of stdout and stderr: a program may be started with either closed."""
    return [stream for stream in (sys.stdout, sys.stderr) if stream is not None]


def _reader_left(stream: TextIO) -> bool:
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
    except (OSError, ValueError):
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))

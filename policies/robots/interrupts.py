"""Ctrl-C, put off for as long as something must not be broken off."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a program in good order: Ctrl-C, a request to end, a terminal that is gone."""


@contextmanager
def interrupts_put_off() -> Iterator[None]:
    """What of ``ENDING`` comes inside is handled afterwards, once. Only the main thread handles any: in another one
    nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])

"""Dead-man's switches: somebody must show again and again that he is there, or the robot holds.

Not a certified safety function: an enabling switch that must be relied upon is wired to the robot.
"""

import math
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from policies.serving.line import RobotLine

BEAT_S = 0.4
"""A beat counts for so long, so that with a step of the loop the robot holds within half a second."""


class Heartbeat(Protocol):
    """``alive()`` says whether somebody was there a moment ago; it is asked at every control step."""

    def alive(self) -> bool: ...


class NobodyAsked:
    """The switch of a robot that needs none."""

    def alive(self) -> bool:
        return True


class Beats:
    """Counts a beat for ``BEAT_S`` from when it was noticed, if somebody looked so long before: what came while nobody
    looked may be long past. ``clock`` gives seconds.
    """

    def __init__(self, noticed: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._noticed = noticed
        self._clock = clock
        self._until_s = self._looked_s = -math.inf

    def alive(self) -> bool:
        now_s = self._clock()
        away_s, self._looked_s = now_s - self._looked_s, now_s
        if self._noticed() and away_s < BEAT_S:
            self._until_s = now_s + BEAT_S
        return now_s < self._until_s


def file_touched(path: Path, clock: Callable[[], float] = time.monotonic) -> Beats:
    """Alive while another program touches ``path`` again and again; a file that is missing, or that was touched before
    and is not any more, is no beat. The clocks of the two need not agree.
    """
    seen: list[int] = [_touched_ns(path)]

    def noticed() -> bool:
        now = _touched_ns(path)
        before, seen[0] = seen[0], now
        return now not in (0, before)

    return Beats(noticed, clock)


def _touched_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@contextmanager
def key_held(clock: Callable[[], float] = time.monotonic) -> Iterator[Beats]:
    """Alive while a key is held down in this terminal, which then repeats it; ``ValueError`` where there is no
    terminal.

    A terminal begins to repeat after its own delay (a quarter to three quarters of a second), so the first press counts
    for ``BEAT_S`` alone.
    """
    if not sys.stdin.isatty():
        raise ValueError("a held key needs a terminal to read from; touch a file instead, or use the page")
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)

    def noticed() -> bool:
        return bool(select.select([terminal], [], [], 0)[0]) and bool(os.read(terminal, 4096))

    try:
        yield Beats(noticed, clock)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


class Attended:
    """Alive while the operator's page is, as the robot's line tells."""

    def __init__(self, line: RobotLine) -> None:
        self._line = line

    def alive(self) -> bool:
        return self._line.orders.attended

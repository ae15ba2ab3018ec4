"""Which action of which chunk is next while the next chunk is on its way: counted in control steps, without a clock."""

from collections import deque

import numpy as np

_REMEMBERED_DELAYS = 8


class ChunkCursor:
    """The present chunk of one robot, and when to ask for the next one.

    The next chunk is asked for after ``replan_interval`` actions of the present one. In turn, the robot then stands
    still until it comes. ``ahead``, it goes on with the present chunk meanwhile, to its last action, and asks earlier
    where that would not last: the longest of the latest delays counts. What has been carried out since the observation
    is past when the new chunk comes, so that this begins with a later action. Steps in which the robot stood still are
    no part of that: its world waited.
    """

    def __init__(self, replan_interval: int, ahead: bool) -> None:
        self._interval = replan_interval
        self._ahead = ahead
        self._rows: np.ndarray | None = None
        self._cursor = 0
        self._asked = False
        self._steps, self._moved = 0, 0
        self._delays: deque[int] = deque(maxlen=_REMEMBERED_DELAYS)

    @property
    def delay_steps(self) -> int:
        """How many steps a chunk takes to come, the longest of the latest, at least 1."""
        return max(self._delays, default=1)

    @property
    def wants(self) -> bool:
        """Whether it is time to ask for the next chunk."""
        if self._asked or self._rows is None:
            return not self._asked
        lasting = len(self._rows) - self.delay_steps if self._ahead else len(self._rows)
        return self._cursor >= min(self._interval, lasting)

    @property
    def spent(self) -> bool:
        """Whether no action is left."""
        return not len(self.left)

    @property
    def left(self) -> np.ndarray:
        """The actions ``(k, a)`` of the present chunk that may still be carried out."""
        if self._rows is None:
            return np.zeros((0, 0), np.float32)
        return self._rows[self._cursor :] if self._ahead else self._rows[self._cursor : self._interval]

    def ask(self) -> None:
        """An observation of this moment, before the next step, has been sent."""
        self._asked, self._steps, self._moved = True, 0, 0

    def give_up(self) -> None:
        """What was asked for will not come."""
        self._asked = False

    def arrive(self, chunk: np.ndarray, waited_steps: int = 0) -> None:
        """The ``chunk`` ``(h, a)`` that was asked for is there; ``waited_steps`` is its delay by the clock, which
        counts where it is longer than the steps that were taken, as for a chunk that no step could be taken without.
        """
        self._delays.append(max(self._steps, waited_steps, 1))
        self._rows, self._cursor, self._asked = chunk, self._moved, False

    def step(self) -> np.ndarray | None:
        """The action ``(a,)`` of the next control step; None if the robot has to stand still."""
        self._steps += 1
        if self.spent:
            return None
        action = self.left[0]
        self._cursor += 1
        self._moved += 1
        return action

"""A loop at a fixed rate."""

import time


class Pace:
    """Keeps a loop at one turn per period; a late turn shifts the schedule instead of being caught up."""

    def __init__(self, period_s: float, realtime: bool = True) -> None:
        self.late = 0
        self._period_s = period_s
        self._realtime = realtime
        self._due_s = 0.0

    def start(self) -> None:
        self._due_s = time.monotonic() + self._period_s

    def left_s(self) -> float:
        """Seconds until this turn is due to end, at least 0."""
        return max(self._due_s - time.monotonic(), 0.0)

    def wait(self) -> None:
        """Sleep until this turn's end; count it if that has passed."""
        now_s = time.monotonic()
        if self._realtime and now_s < self._due_s:
            time.sleep(self._due_s - now_s)
        elif self._realtime:
            self.late += 1
            self._due_s = now_s
        self._due_s += self._period_s

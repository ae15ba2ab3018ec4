"""The block of memory that a program and its workers share: arrays with a row for each world."""

import math
import mmap
from typing import Any, NamedTuple

import numpy as np

_ALIGNMENT_BYTES = 64
CLOCK = "clock"
"""int64 ``(n,)``: grows with everything that is done in a world: one at work can be told from one that hangs."""
STEPS = "steps"
"""int64 ``(n,)``: the control steps that a world's episode has taken."""
AT_WORK = "at_work"
"""int64 ``(n,)``: 1 for the world that a worker is at."""


class Slot(NamedTuple):
    """Where an array lies in the block."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @classmethod
    def from_json(cls, given: list[Any]) -> "Slot":
        """A slot that has been through JSON."""
        name, dtype, shape, offset = given
        return cls(str(name), str(dtype), tuple(shape), int(offset))


def laid_out(worlds: int, rows: dict[str, tuple[str, tuple[int, ...]]]) -> list[Slot]:
    """Slots for the counters and for ``rows``: by name, dtype and shape of one world's part of an array."""
    counters = {name: ("<i8", ()) for name in (CLOCK, STEPS, AT_WORK)}
    slots: list[Slot] = []
    end = 0
    for name, (dtype, shape) in {**counters, **rows}.items():
        start = math.ceil(end / _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        slots.append(Slot(name, dtype, (worlds, *shape), start))
        end = slots[-1].end
    return slots


def views(descriptor: int, slots: list[Slot]) -> dict[str, np.ndarray]:
    """The arrays in the block that is open as ``descriptor``; they keep its memory."""
    block = mmap.mmap(descriptor, slots[-1].end)
    found = {}
    for name, dtype, shape, offset in slots:
        flat = np.frombuffer(block, dtype, math.prod(shape), offset)
        found[name] = flat.reshape(shape)
    return found

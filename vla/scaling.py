"""How a robot's state became what a network reads."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StateScale:
    """A network reads ``(x − offset) / scale`` of each number x of the state; both in the number's own unit."""

    offset: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.offset) != len(self.scale) or not all(0 < scale < math.inf for scale in self.scale):
            raise ValueError(f"expected an offset and a positive scale per number, got {self.offset} and {self.scale}")

"""What a check of a dataset says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]
"""An error spoils what is learned from the frames it names; a warning is to be looked at."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong: which ``check`` found it, in which episode (None: in all of them), from which frame on
    (None: in all of it), in the pictures of which camera if any, and what to do about it.
    """

    check: str
    severity: Severity
    episode: int | None
    frame: int | None = None
    camera: str | None = None
    what: str
    remedy: str


LEAVE_OUT = "look at it (vla dataset viz), and delete the episode (vla dataset delete)"


def runs(marked: Sequence[int]) -> list[tuple[int, int]]:
    """First entry and length of every run of successive numbers in a rising list."""
    found: list[tuple[int, int]] = []
    for number in marked:
        if found and number == sum(found[-1]):
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((number, 1))
    return found

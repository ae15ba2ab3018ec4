"""Looking up what has a name."""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def chosen(kind: str, name: str, known: Mapping[str, T]) -> T:
    """``known[name]``; ``ValueError`` says that there is no such ``kind``, and which there are."""
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}; expected one of {', '.join(known)}")
    return known[name]

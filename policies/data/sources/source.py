"""What our own format needs of someone else's: the one interface behind which every foreign format is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from jaxtyping import Shaped, UInt8
from numpy import ndarray

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One quantity that every frame has, under its own name: its shape in one frame, and what its numbers are called
    where the data say so. ``size`` is that of colour pictures, None for anything else.
    """

    key: str
    shape: tuple[int, ...]
    names: Sequence[str] | None = None
    size: Size | None = None


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the data say of an episode. ``instruction`` is None where the format has none, ``task`` where it is to be
    called after the instruction.
    """

    success: bool
    seed: int
    instruction: str | None = None
    task: str | None = None


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """What a format makes likely: the features that are state and action, the robot, its rate, the instruction of all
    episodes, each with the reason in ``why`` by the place that it takes in a robot's file (``name``, ``keys.state``,
    …). Empty or None: nothing is likelier than anything else.
    """

    state: tuple[str, ...] = ()
    action: tuple[str, ...] = ()
    name: str = ""
    control_rate_hz: float | None = None
    instruction: str | None = None
    time: str | None = None
    why: Mapping[str, str] = field(default_factory=dict)


class Source(Protocol):
    """A dataset of some other format. Episodes are counted 0, 1, …; ``told`` and ``where`` say what the data call them.

    Every ``DatasetError`` names the file, and where they are to blame the episode and the frame.
    """

    @property
    def format(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def features(self) -> Mapping[str, Feature]: ...
    @property
    def rate_hz(self) -> float | None:
        """Frames per second, where the data say so beyond doubt."""
        ...

    @property
    def about(self) -> Mapping[str, Any]:
        """What a store that is made of the data keeps of them, JSON-ready."""
        ...

    @property
    def told_by(self) -> frozenset[str]:
        """Features that :meth:`told` or the count of frames makes use of, so that nothing of them is lost."""
        ...

    def __len__(self) -> int: ...

    def numbers(self, number: int, key: str) -> Shaped[ndarray, "t ..."]:
        """A feature that is no picture, at the frames of an episode, as it is stored."""
        ...

    def pictures(self, number: int, key: str, size: Size) -> UInt8[ndarray, "t h w 3"]:
        """A camera's pictures in an episode, RGB, brought to ``size``."""
        ...

    def told(self, number: int) -> Told:
        """What the data say of an episode."""
        ...

    def where(self, number: int) -> str:
        """An episode and its file, for messages: ``episode 3 of data/file.parquet``."""
        ...

    def proposal(self) -> Proposal:
        """What the format makes likely."""
        ...

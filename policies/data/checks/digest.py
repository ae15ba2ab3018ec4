"""What the checks need of each episode, small enough to be kept of all: vectors whole, pictures as a few numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from envs.specs import Dimension, EmbodimentSpec
from policies.data.episode import Episode

GRID = 8
"""Sides of the coarse picture that is kept of an episode's first frame."""
GRIPPER_FRAME = "gripper"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One camera's pictures of t frames, in grey levels. ``change`` ``(t − 1,)``: how much a picture differs from the
    one before, the mean over pixels. ``contrast`` ``(t,)``: the standard deviation within a picture. ``first``
    ``(8, 8)``: the first picture's coarse brightness.
    """

    change: Float[np.ndarray, " t-1"]
    contrast: Float[np.ndarray, " t"]
    first: Float[np.ndarray, "8 8"]


@dataclass(frozen=True, kw_only=True)
class Digest:
    """One episode. ``equal`` has the pairs of cameras that show the very same picture at its beginning and end."""

    number: int
    state: Float[np.ndarray, "t s"]
    actions: Float[np.ndarray, "t a"]
    instruction: str
    task: str
    success: bool
    seed: int
    seen: Mapping[str, Seen]
    equal: tuple[tuple[str, str], ...]
    times_s: Float[np.ndarray, " t"] | None = None

    def __len__(self) -> int:
        return len(self.actions)


def digest(number: int, episode: Episode) -> Digest:
    """What is kept of an episode."""
    names = list(episode.images)
    equal = [
        (a, b)
        for place, a in enumerate(names)
        for b in names[place + 1 :]
        if all(np.array_equal(episode.images[a][frame], episode.images[b][frame]) for frame in (0, -1))
    ]
    return Digest(
        number=number,
        state=episode.state.astype(np.float64),
        actions=episode.actions.astype(np.float64),
        instruction=episode.instruction,
        task=episode.task,
        success=episode.success,
        seed=episode.seed,
        seen={name: _seen(pictures) for name, pictures in episode.images.items()},
        equal=tuple(equal),
        times_s=episode.times_s,
    )


def _seen(pictures: np.ndarray) -> Seen:
    grey = pictures.mean(-1, dtype=np.float32)
    change = [np.abs(after.astype(np.int16) - before).mean() for before, after in pairwise(pictures)]
    rows, columns = (np.linspace(0, side, GRID, endpoint=False).astype(int) for side in grey.shape[1:])
    counts = [np.diff(np.append(at, side)) for at, side in zip((rows, columns), grey.shape[1:], strict=True)]
    coarse = np.add.reduceat(np.add.reduceat(grey[0], rows, 0), columns, 1) / np.outer(*counts)
    return Seen(change=np.array(change), contrast=grey.std((1, 2)), first=coarse)


@dataclass(frozen=True)
class Recording:
    """All episodes of a store, with the robot that they are of, and what is usual in them."""

    robot: EmbodimentSpec
    episodes: tuple[Digest, ...]

    @property
    def arm(self) -> list[int]:
        """The numbers of the state that are not the gripper's."""
        return [i for i, dim in enumerate(self.robot.state) if dim.frame != GRIPPER_FRAME]

    @cached_property
    def steps(self) -> list[Float[np.ndarray, "t-1 s"]]:
        """How much each number of the arm's state changes from frame to frame, in units of its fastest usual change:
        the 99th percentile over all episodes, at least a thousandth of its range.
        """
        changes = [np.abs(np.diff(e.state[:, self.arm], axis=0)) for e in self.episodes]
        whole = np.concatenate(changes) if self.episodes else np.zeros((0, len(self.arm)))
        usual = np.quantile(whole, 0.99, axis=0) if len(whole) else np.ones(len(self.arm))
        least = 1e-3 * spans(self.robot.state)[self.arm]
        return [change / np.maximum(usual, least) for change in changes]

    @cached_property
    def motion(self) -> list[Float[np.ndarray, " t-1"]]:
        """The largest of these in each step; 1 is as fast as the arm usually gets."""
        return [step.max(1, initial=0.0) for step in self.steps]

    def finite(self) -> "Recording":
        """The episodes whose vectors are numbers throughout."""
        kept = [e for e in self.episodes if np.isfinite(e.state).all() and np.isfinite(e.actions).all()]
        return Recording(self.robot, tuple(kept))


def spans(dimensions: tuple[Dimension, ...]) -> Float[np.ndarray, " d"]:
    """How far every dimension ranges by its specification."""
    return np.array([dim.high - dim.low for dim in dimensions])

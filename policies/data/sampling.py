"""Which frames a training step learns from: functions of seed and step alone, so that a resumed run needs its step."""

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
from jaxtyping import Int


def batch_indices(seed: int, step: int, batch_size: int, num_frames: int) -> Int[np.ndarray, " b"]:
    """Frames of training step ``step``.

    Steps walk through one random permutation of all frames per epoch; a batch may end one epoch and
    begin the next, so that every epoch visits each frame exactly once.
    """
    if num_frames < 1 or batch_size < 1 or step < 0:
        raise ValueError(f"expected frames and batch ≥ 1 and step ≥ 0, got {num_frames}, {batch_size}, {step}")
    return _walk(step * batch_size, (step + 1) * batch_size, num_frames, lambda e: _permutation(seed, e, num_frames))


class WeightedFrames:
    """Frames of several tasks, which share every epoch in proportion to their weights, however many each has.

    An epoch is as long as all frames are; a task that has fewer than its share in it comes again and again, each of its
    frames as often as any other, and of one that has more, the next epoch goes on where the last one stopped.
    """

    def __init__(self, task_of: Int[np.ndarray, " n"], weights: Mapping[int, float]) -> None:
        """``task_of`` is each frame's task, of which ``weights`` has all, not all of them 0."""
        self._frames = {task: np.flatnonzero(task_of == task) for task in sorted(weights)}
        self._counts = _shares(len(task_of), {task: weights[task] for task in self._frames})
        self._length = sum(self._counts.values())
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)

    def batch(self, seed: int, step: int, batch_size: int) -> Int[np.ndarray, " b"]:
        """The frames of training step ``step``, a pure function of the arguments and the tasks."""
        return _walk(step * batch_size, (step + 1) * batch_size, self._length, lambda epoch: self._epoch(seed, epoch))

    def _make_epoch(self, seed: int, epoch: int) -> Int[np.ndarray, " n"]:
        parts = []
        for task, count in self._counts.items():
            if count:
                own = self._frames[task]
                parts.append(own[batch_indices(seed + task, epoch, count, len(own))])
        return np.concatenate(parts)[_permutation(seed, epoch, self._length)]


def task_weights(tasks: Mapping[str, int], named: Mapping[str, float]) -> dict[int, float]:
    """A weight for every task by its number: the one that is named, else 1.

    ``ValueError`` for a task that the data lack, a weight below 0, or weights that leave nothing.
    """
    if unknown := sorted(set(named) - set(tasks)):
        there = f"their tasks are {sorted(tasks)}"
        raise ValueError(f"the data have no episodes of {unknown}, which task_weights name; {there}")
    if wrong := {task: weight for task, weight in named.items() if not 0 <= weight < float("inf")}:
        raise ValueError(f"the weight of a task must be a number from 0 on, got {wrong}")
    weights = {number: float(named.get(task, 1.0)) for task, number in tasks.items()}
    if not any(weights.values()):
        raise ValueError(f"task_weights leave no task to learn: {dict(named)}")
    return weights


def _shares(total: int, weights: Mapping[int, float]) -> dict[int, int]:
    """So many of ``total`` for each task, in proportion, rounded; at least 1 where the weight is not 0."""
    whole = sum(weights.values())
    return {task: max(round(total * weight / whole), int(weight > 0)) for task, weight in weights.items()}


def _walk(
    position: int, end: int, length: int, epoch_of: Callable[[int], Int[np.ndarray, " n"]]
) -> Int[np.ndarray, " b"]:
    """The entries ``position … end − 1`` of epochs of one length, one after the other."""
    parts = []
    while position < end:
        epoch, offset = divmod(position, length)
        take = min(end - position, length - offset)
        parts.append(epoch_of(epoch)[offset : offset + take])
        position += take
    return np.concatenate(parts)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num_frames: int) -> Int[np.ndarray, " n"]:
    return np.random.default_rng((seed, epoch)).permutation(num_frames)

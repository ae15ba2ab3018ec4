"""Which frames a step of a sequence of tasks learns from."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from policies.data.sampling import batch_indices
from policies.imitation.demonstrations import Demonstrations
from policies.imitation.stages import Frames

_REPLAYED = 1_000_000
"""Apart from the seeds of the tasks' own frames."""


class TaskFrames:
    """The frames of each of the ``tasks`` in ``demonstrations``; ``ValueError`` for a task that has none."""

    def __init__(self, demonstrations: Demonstrations, tasks: Sequence[str], replay: float) -> None:
        check_tasks(tasks, demonstrations.tasks)
        self._frames: dict[Frames, list[Int[np.ndarray, " n"]]] = {
            "all": [demonstrations.frames_of(task) for task in tasks],
            "motion_starts": [demonstrations.frames_of(task, "motion_starts") for task in tasks],
        }
        self._replay = replay

    def draw(
        self, seed: int, step: int, batch_size: int, *, task: int, frames: Frames = "all"
    ) -> Int[np.ndarray, " b"]:
        """The frames of 0-based ``step`` of the task of this number: a pure function of the arguments and the data.

        After those of the task itself come those of the tasks before, as many as their share is, rounded, though at
        least one of either where there is place for both; every frame of theirs is as likely as any other.
        """
        own = self._frames[frames]
        before = np.concatenate(own[:task]) if task else own[0][:0]
        wanted = max(round(self._replay * batch_size), 1) if self._replay and len(before) else 0
        replayed = min(wanted, batch_size - 1)
        new = own[task][batch_indices(seed + task, step, batch_size - replayed, len(own[task]))]
        if not replayed:
            return new
        old = before[batch_indices(seed + task + _REPLAYED, step, replayed, len(before))]
        return np.concatenate([new, old])


def check_tasks(tasks: Sequence[str], there: Sequence[str]) -> None:
    """``ValueError`` that names the tasks without demonstrations, and those that are there."""
    if lacking := [task for task in tasks if task not in there]:
        raise ValueError(
            f"lifelong.tasks names {', '.join(lacking)}, of which the data have no demonstration; "
            f"their tasks are {', '.join(sorted(there))}"
        )

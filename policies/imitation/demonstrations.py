"""The demonstrations of one run: the windows of one or more stores, as if they were one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.specs import ACTION_KEY, STATE_KEY, EmbodimentSpec
from policies.data.dataset import DemonstrationDataset
from policies.data.differences import differences
from policies.data.layout import EpisodeRecord, StoreHeader
from policies.data.sampling import WeightedFrames, batch_indices, task_weights
from policies.data.statistics import DatasetStatistics, FieldStatistics
from policies.data.windows import WindowBatch, WindowConfig, build_windows
from policies.imitation.stages import Frames

MOTION_START_FRAMES = 4
"""How many frames from the first one of a motion on count as its start."""


def embodiment_of(paths: Sequence[Path]) -> EmbodimentSpec:
    """The robot that recorded the first of the stores; ``ValueError`` where there is none."""
    if not paths:
        raise ValueError("expected at least one demonstration store, got none")
    return StoreHeader.read(paths[0]).embodiment


class NoEpisodesError(ValueError):
    """None of the stores' episodes is to be taken."""


class Demonstrations:
    """Windows of several stores (say, one per task) of one embodiment, joined end to end.

    Every frame of every store is equally likely, unless ``weights`` say how tasks share what is drawn: in proportion,
    1 for a task that is not named. Without ``failures``, episodes that failed are left out, and with
    ``keep`` those to whose record it says no. The config's memory budget is that of all stores together. Raises
    ``ValueError`` for stores of different robots, or without an episode, or weights of tasks that there are not, and
    ``DatasetError`` for a store that is damaged.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        config: WindowConfig,
        *,
        failures: bool = False,
        keep: Callable[[EpisodeRecord], bool] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.embodiment = embodiment_of(paths)
        datasets = [DemonstrationDataset(path, failures=failures, keep=keep) for path in paths]
        for dataset in datasets[1:]:
            if dataset.embodiment != self.embodiment:
                raise ValueError(
                    f"stores of one run must share one embodiment; {datasets[0].path} (there) and {dataset.path} "
                    f"(now) differ:\n{differences(self.embodiment.to_dict(), dataset.embodiment.to_dict())}"
                )
        self.datasets = [dataset for dataset in datasets if len(dataset) or keep is None]
        if not self.datasets:
            raise NoEpisodesError(f"none of the episodes of {', '.join(map(str, paths))} is to be taken")
        records = [record for dataset in self.datasets for record in dataset.records]
        tasks = {task: number for number, task in enumerate(sorted({record.task for record in records}))}
        by_number = task_weights(tasks, weights) if weights else None
        self.windows = build_windows(self.datasets, config)
        self._ends = np.cumsum([len(windows) for windows in self.windows])
        offsets = self._ends - [len(windows) for windows in self.windows]
        starts = [w.segment_starts(MOTION_START_FRAMES) + at for w, at in zip(self.windows, offsets, strict=True)]
        self._motion_starts = np.concatenate(starts)
        self._weighted: dict[Frames, WeightedFrames] = {}
        self._number_of, lengths = tasks, [record.length for record in records]
        self._task_of = np.repeat(np.array([tasks[record.task] for record in records], dtype=np.int32), lengths)
        if by_number is not None:
            self._weighted["all"] = WeightedFrames(self._task_of, by_number)
            self._weighted["motion_starts"] = WeightedFrames(self._task_of[self._motion_starts], by_number)
        self.instructions = tuple(text for windows in self.windows for text in windows.instructions)
        self._first_text = np.cumsum([0, *(len(windows.instructions) for windows in self.windows[:-1])])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def num_episodes(self) -> int:
        return sum(len(dataset) for dataset in self.datasets)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks, in alphabetical order."""
        return tuple(self._number_of)

    def frames_of(self, task: str, frames: Frames = "all") -> Int[np.ndarray, " n"]:
        """The frames of a task, counted over all stores; with ``motion_starts`` the first ones of its motions."""
        chosen = self._motion_starts if frames == "motion_starts" else np.arange(len(self))
        return chosen[self._task_of[chosen] == self._number_of[task]]

    def statistics(self) -> DatasetStatistics:
        """Statistics over all frames of all stores; the stores' own where there is but one."""
        if len(self.datasets) == 1:
            return self.datasets[0].statistics()
        values = {key: np.concatenate([d.load(key) for d in self.datasets]) for key in (STATE_KEY, ACTION_KEY)}
        return DatasetStatistics(
            episodes=self.num_episodes,
            frames=len(self),
            state=FieldStatistics.of(values[STATE_KEY]),
            action=FieldStatistics.of(values[ACTION_KEY]),
        )

    def chunks(self, most: int) -> tuple[Float[Tensor, "n h a"], Bool[Tensor, "n h"]]:
        """The actions of at most so many windows, spread evenly over all, and which of them are valid."""
        frames = np.linspace(0, len(self) - 1, min(most, len(self))).round().astype(np.int64)
        parts = [self.windows[index].chunks(local) for index, _, local in self.by_store(frames)]
        actions, valid = zip(*parts, strict=True)
        return torch.cat(actions), torch.cat(valid)

    def batch(
        self, seed: int, step: int, batch_size: int, *, frames: Frames = "all", rows: slice = slice(None)
    ) -> WindowBatch:
        """The batch of optimiser step ``step``: a pure function of the arguments and the stores.

        With ``motion_starts`` it is drawn from the first frames of the motions alone. Only its ``rows`` are read.
        """
        return self.sample(self.draw(seed, step, batch_size, frames=frames)[rows])

    def draw(self, seed: int, step: int, batch_size: int, *, frames: Frames = "all") -> Int[np.ndarray, " b"]:
        """The frames of that batch, counted over all stores."""
        if frames in self._weighted:
            drawn = self._weighted[frames].batch(seed, step, batch_size)
            return self._motion_starts[drawn] if frames == "motion_starts" else drawn
        if frames == "motion_starts":
            return self._motion_starts[batch_indices(seed, step, batch_size, len(self._motion_starts))]
        return batch_indices(seed, step, batch_size, len(self))

    def by_store(
        self, chosen: Int[np.ndarray, " b"]
    ) -> Iterator[tuple[int, Int[np.ndarray, " m"], Int[np.ndarray, " m"]]]:
        """Of each store that any of these frames is of: its number, their places among them, and the frames in it."""
        owner = np.searchsorted(self._ends, chosen, side="right")
        for index, windows in enumerate(self.windows):
            place = np.flatnonzero(owner == index)
            if len(place):
                yield index, place, chosen[place] - (self._ends[index] - len(windows))

    def history(self, chosen: Int[np.ndarray, " b"], before: int) -> Float[Tensor, "b t d"]:
        """The states up to each of these frames: see :meth:`policies.data.windows.Windows.history`."""
        parts = [(self.windows[index].history(local, before), place) for index, place, local in self.by_store(chosen)]
        states, places = zip(*parts, strict=True)
        return torch.cat(states)[torch.from_numpy(np.argsort(np.concatenate(places)))]

    def sample(self, chosen: Int[np.ndarray, " b"]) -> WindowBatch:
        """The windows at these frames, counted over all stores, in this order."""
        parts, places = [], []
        for index, place, local in self.by_store(chosen):
            parts.append((self.windows[index].sample(local), int(self._first_text[index])))
            places.append(place)
        order = torch.from_numpy(np.argsort(np.concatenate(places)))
        columns = {
            name: torch.cat([_column(part, name, first_text) for part, first_text in parts])[order]
            for name in (f.name for f in fields(WindowBatch))
            if getattr(parts[0][0], name) is not None
        }
        return WindowBatch(**columns)


def _column(part: WindowBatch, name: str, first_text: int) -> Tensor:
    column = getattr(part, name)
    return column + first_text if name == "text" else column

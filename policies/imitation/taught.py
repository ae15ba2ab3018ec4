"""What is taught about the samples of a run: by teachers, asked once for each frame or anew for each batch; by the
words of the instructions; by the robot's own states.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.progress import Progress, TaskID
from torch import Tensor

from policies.data.features import FrameFeatures
from policies.data.windows import WindowBatch, Windows
from policies.imitation.demonstrations import Demonstrations
from policies.imitation.teachers import Teacher
from policies.processors import Normalization
from policies.progress import progress_bar
from vla.objectives.further import Taught

PIECE_FRAMES = 32
"""Frames that a teacher is asked about at a time."""


class Source(Protocol):
    """Where what is taught under one name comes from."""

    def of(
        self, frames: Int[np.ndarray, " b"], batch: WindowBatch, normalization: Normalization
    ) -> Float[Tensor, "b ..."]:
        """About the samples ``batch`` of the demonstrations' ``frames``, as the network's numbers are normalised."""
        ...


class AskedOnce:
    """A teacher's numbers, kept in the folders of the stores."""

    def __init__(self, teacher: Teacher, demonstrations: Demonstrations) -> None:
        """Nothing is asked yet. ``ValueError`` where what is kept is not what it should be."""
        self._demonstrations = demonstrations
        self._kept = [FrameFeatures(w.dataset, teacher.about, teacher.shape) for w in demonstrations.windows]

    def ask(self, teacher: Teacher, *, show_progress: bool) -> None:
        """Ask about all frames that nothing is kept of."""
        with progress_bar(show_progress) as progress:
            for kept, windows in zip(self._kept, self._demonstrations.windows, strict=True):
                if kept.missing:
                    bar = progress.add_task("teacher", total=kept.frames, note=windows.dataset.path.name)
                    kept.fill(partial(_asked, teacher, windows), partial(_shown, progress, bar))

    def of(
        self, frames: Int[np.ndarray, " b"], batch: WindowBatch, normalization: Normalization
    ) -> Float[Tensor, "b ..."]:
        del batch, normalization
        parts = [
            (self._kept[store].read(local), place) for store, place, local in self._demonstrations.by_store(frames)
        ]
        values, places = zip(*parts, strict=True)
        return torch.from_numpy(np.concatenate(values)[np.argsort(np.concatenate(places))])


class AskedAnew:
    """A teacher that runs beside the network."""

    def __init__(self, teacher: Teacher, demonstrations: Demonstrations) -> None:
        self._teacher, self._instructions = teacher, demonstrations.instructions

    def of(
        self, frames: Int[np.ndarray, " b"], batch: WindowBatch, normalization: Normalization
    ) -> Float[Tensor, "b ..."]:
        del frames, normalization
        return self._teacher.teach(batch, self._instructions)


class Sentences:
    """A vector for each instruction."""

    def __init__(self, vectors: Float[Tensor, "n e"]) -> None:
        self._vectors = vectors.cpu()

    def of(
        self, frames: Int[np.ndarray, " b"], batch: WindowBatch, normalization: Normalization
    ) -> Float[Tensor, "b e"]:
        del frames, normalization
        return self._vectors[batch.text]


class History:
    """The robot's normalised states up to the present, those of ``before`` frames before it and its own."""

    def __init__(self, demonstrations: Demonstrations, before: int) -> None:
        self._demonstrations, self._before = demonstrations, before

    def of(
        self, frames: Int[np.ndarray, " b"], batch: WindowBatch, normalization: Normalization
    ) -> Float[Tensor, "b t d"]:
        del batch
        return normalization.state.normalize(self._demonstrations.history(frames, self._before))


class TaughtFrames:
    """What is taught about frames of demonstrations, by name, on the network's device."""

    def __init__(self, sources: Mapping[str, Source], needs: Mapping[str, Sequence[str]], device: torch.device) -> None:
        """``needs`` says which names each objective is made of."""
        self._sources, self._needs, self._device = sources, needs, device

    def of(
        self,
        frames: Int[np.ndarray, " b"],
        batch: WindowBatch,
        normalization: Normalization,
        objectives: Mapping[str, float],
    ) -> Taught:
        """What the ``objectives`` need that count."""
        names = dict.fromkeys(name for objective in objectives for name in self._needs[objective])
        return {name: self._sources[name].of(frames, batch, normalization).to(self._device) for name in names}


def _asked(teacher: Teacher, windows: Windows, frames: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b ..."]:
    """What a teacher says of frames of one store."""
    pieces = [frames[first : first + PIECE_FRAMES] for first in range(0, len(frames), PIECE_FRAMES)]
    said = [teacher.teach(windows.sample(piece), windows.instructions).float().cpu() for piece in pieces]
    return torch.cat(said).numpy()


def _shown(progress: Progress, bar: TaskID, done: int) -> None:
    progress.update(bar, completed=done)

"""What happened on a robot, frame by frame, into a store of ours, with who acted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from envs.specs import ACTION_KEY, EmbodimentSpec, extrinsics_key
from policies.data.differences import differences
from policies.data.episode import ACTOR_KEY, ACTORS, Episode, episode_fields
from policies.data.layout import DatasetError, StoreHeader
from policies.data.writer import DemonstrationWriter


class RunRecorder:
    """Keeps one episode in memory and appends it whole when it ends: a kill loses the open episode alone.

    Actions are in the embodiment's units, as they were carried out. A store that is there is added to, if it is of the
    same robot, with the same settings, and has who acted: ``DatasetError`` otherwise, at once.
    """

    def __init__(self, path: Path, embodiment: EmbodimentSpec, settings: Mapping[str, Any], geometry: bool) -> None:
        header = StoreHeader(embodiment=embodiment, settings=settings, geometry=geometry, phase=False, actor=True)
        self._writer = _open(path, header)
        self._fields = episode_fields(embodiment, geometry=geometry, phase=False, actor=True)
        self._embodiment = embodiment
        self._frames: list[dict[str, Any]] = []
        self._instruction, self._task, self._seed = "", "", 0
        self._before: list[tuple[str, list[dict[str, Any]]]] = []

    @property
    def recorded(self) -> int:
        """How many episodes the store holds."""
        return len(self._writer)

    @property
    def open_frames(self) -> int:
        """How many frames the open episode has."""
        return len(self._frames)

    def begin(self, instruction: str, task: str, seed: int) -> None:
        """Start an episode; what is open is dropped."""
        self._frames, self._instruction, self._task, self._seed = [], instruction, task, seed

    def add(self, observation: Mapping[str, Any], action: np.ndarray, actor: str) -> None:
        """One frame: what was seen, and the action ``(a,)`` that was then taken by ``actor``, one of ``ACTORS``."""
        frame = {**observation, ACTION_KEY: action, ACTOR_KEY: np.int32(ACTORS.index(actor))}
        self._frames.append({spec.key: np.asarray(frame[spec.key], spec.dtype) for spec in self._fields})

    def told(self, instruction: str) -> None:
        """What follows is told otherwise. An episode has one instruction, so what came before is one of its own, which
        failed; it is appended when all ends, for that takes longer than a robot can wait.
        """
        self._before.append((self._instruction, self._frames))
        self._frames, self._instruction = [], instruction

    def end(self, success: bool) -> int | None:
        """Append what was recorded; the last episode's number, or None if it had no frame. What could not be appended
        is still there, to be tried again.
        """
        self._end_before()
        number = self._append(self._instruction, self._frames, success)
        self._frames = []
        return number

    def drop(self) -> None:
        """Forget the open episode, but what came before it was told otherwise: :meth:`end` still writes that."""
        self._frames = []

    def _end_before(self) -> None:
        while self._before:
            self._append(*self._before[0], success=False)
            del self._before[0]

    def _append(self, instruction: str, frames: list[dict[str, Any]], success: bool) -> int | None:
        if not frames:
            return None
        arrays = {spec.key: np.stack([frame[spec.key] for frame in frames]) for spec in self._fields}
        episode = Episode.from_fields(
            arrays,
            self._embodiment.camera_names,
            instruction=instruction,
            task=self._task,
            success=success,
            seed=self._seed,
        )
        return self._writer.append(episode)

    def close(self) -> None:
        """Release the store; the open episode is dropped."""
        self._writer.close()


def has_geometry(observation: Mapping[str, Any], embodiment: EmbodimentSpec) -> bool:
    """Whether an observation says where every camera stands."""
    return all(extrinsics_key(name) in observation for name in embodiment.camera_names) and bool(embodiment.cameras)


def _open(path: Path, header: StoreHeader) -> DemonstrationWriter:
    if not path.exists():
        return DemonstrationWriter.create(
            path, header.embodiment, settings=header.settings, geometry=header.geometry, actor=True
        )
    writer = DemonstrationWriter.open(path)
    if differing := differences(writer.header.to_attributes(), header.to_attributes()):
        writer.close()
        raise DatasetError(f"{path} was recorded otherwise; record into another folder:\n{differing}")
    return writer

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

    def end(self, success: bool) -> int | None:
        """Append what was recorded; the episode's number, or None if there was no frame.

        An episode has one instruction: where it was edited on the way, what came before is an episode of its own.
        """
        frames, self._frames = self._frames, []
        if not frames:
            return None
        arrays = {spec.key: np.stack([frame[spec.key] for frame in frames]) for spec in self._fields}
        episode = Episode.from_fields(
            arrays,
            self._embodiment.camera_names,
            instruction=self._instruction,
            task=self._task,
            success=success,
            seed=self._seed,
        )
        return self._writer.append(episode)

    def discard(self) -> None:
        """Drop the open episode."""
        self._frames = []

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

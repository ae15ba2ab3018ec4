"""Reading a demonstration store: whole episodes, single frames, whole fields, what is in it."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Int, Shaped

from envs.specs import ACTION_KEY, STATE_KEY
from policies.data.episode import Episode, FieldSpec, validate_episode
from policies.data.layout import (
    FORMAT_VERSION,
    DatasetError,
    EpisodeRecord,
    StoreHeader,
    check_stored_bytes,
    chunk_checksum,
    chunk_files,
    open_arrays,
    read_records,
    read_removed,
)
from policies.data.left_out import LeftOut, ordered
from policies.data.statistics import DatasetStatistics, FieldStatistics
from vla.durable import write_text_atomically
from vla.strict_json import strict_json

log = logging.getLogger(__name__)

STATISTICS_FILE = "statistics.json"
LOAD_FRAMES = 512
"""Frames decoded at a time when a whole field is loaded."""


class DemonstrationDataset:
    """The episodes that were committed when the store was opened; a writer may go on beside it.

    A *frame* index counts the recorded frames of all episodes, 0 … ``num_frames − 1``. Opening
    compares the size of every chunk file with the commit records; decoding checks every chunk's
    checksum, and that it is still there. All raise ``DatasetError`` with the episode and the file.

    Episodes are numbered 0, 1, … in the order of recording; where some were removed, or are left out for want of
    ``failures`` or because ``keep`` says no, the rest close up. ``records[i].index`` is the number of the i-th one's
    commit record.
    """

    def __init__(
        self, path: Path | str, *, failures: bool = True, keep: Callable[[EpisodeRecord], bool] | None = None
    ) -> None:
        self.path = Path(path)
        self.header = StoreHeader.read(self.path)
        self.embodiment = self.header.embodiment
        self.settings = self.header.settings
        stored = read_records(self.path)
        for record in stored:
            check_stored_bytes(self.path, self.header, record)
        kept = tuple(record for record in stored if keep is None or keep(record))
        self.records: tuple[EpisodeRecord, ...] = tuple(r for r in kept if failures or r.success)
        self.without = len(kept) - len(self.records)
        """How many failures were left out."""
        self._specs = {spec.key: spec for spec in self.header.fields}
        end_row = self.records[-1].end_row if self.records else 0
        self._arrays = open_arrays(self.path, self.header, end_row, writable=False)
        self._first_rows = np.array([record.first_row for record in self.records], dtype=np.int64)
        self._end_frames = np.cumsum([record.length for record in self.records], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def num_frames(self) -> int:
        return int(self._end_frames[-1]) if self.records else 0

    @property
    def end_frames(self) -> Int[np.ndarray, " episodes"]:
        """One past the last frame of each episode."""
        return self._end_frames

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the per-frame fields."""
        return tuple(self._specs)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what a learner gets from these episodes: equal for equal content in equal order, wherever it lies.

        It covers the embodiment, every episode's instruction, task, seed, success and length, and of every chunk the
        checksum of its decoded content that the store keeps (32 bits). Nothing is decoded: the cost is one small
        read per chunk file, once.
        """
        digest = hashlib.sha256(strict_json(asdict(self.embodiment), sort_keys=True).encode())
        for record in self.records:
            about = (record.length, record.instruction, record.task, record.success, record.seed)
            digest.update(strict_json(about).encode())
            for spec in self.header.fields:
                files = chunk_files(self.path, spec, record.first_row, record.length)
                digest.update(spec.key.encode() + b"".join(map(chunk_checksum, files)))
        return digest.hexdigest()

    def field(self, key: str) -> FieldSpec:
        """Dtype and shape of a field; ``KeyError`` lists the fields there are."""
        if key not in self._specs:
            raise KeyError(f"{self.path} has no field {key!r}; its fields are {list(self._specs)}")
        return self._specs[key]

    def episode(self, index: int) -> Episode:
        """Episode ``index``, decoded; ``IndexError`` beyond the last one."""
        if not 0 <= index < len(self.records):
            raise IndexError(f"{self.path} has {len(self.records)} episodes, asked for episode {index}")
        record = self.records[index]
        arrays = {key: self._decode(key, record.first_row, record.end_row) for key in self._specs}
        for key in self._specs:
            self._check_there(key, np.arange(record.first_row, record.end_row))
        return Episode.from_fields(
            arrays,
            self.embodiment.camera_names,
            instruction=record.instruction,
            task=record.task,
            success=record.success,
            seed=record.seed,
        )

    def read(self, key: str, frames: Int[np.ndarray, " b"]) -> Shaped[np.ndarray, "b ..."]:
        """The field ``key`` at these frames, in this order; decodes only the chunks that hold them."""
        self.field(key)
        rows, inverse = np.unique(self._rows(frames), return_inverse=True)
        try:
            unique = np.asarray(self._arrays[key].oindex[rows])
        except (RuntimeError, ValueError, OSError) as error:
            raise self._decode_error(key, int(rows[0]), int(rows[-1]) + 1, error) from error
        self._check_there(key, rows)
        return unique[inverse]

    def load(self, key: str, out: Shaped[np.ndarray, "t ..."] | None = None) -> Shaped[np.ndarray, "t ..."]:
        """The field ``key`` at every frame, decoded into ``out`` where given (any strides)."""
        spec = self.field(key)
        if out is None:
            out = np.empty((self.num_frames, *spec.shape), spec.dtype)
        for first in range(0, self.num_frames, LOAD_FRAMES):
            end = min(first + LOAD_FRAMES, self.num_frames)
            out[first:end] = self.block(key, first, end)
        return out

    def block(self, key: str, first: int, end: int) -> Shaped[np.ndarray, "t ..."]:
        """The field ``key`` at the frames ``first … end − 1``."""
        rows = self._rows(np.arange(first, end))
        block = self._decode(key, int(rows[0]), int(rows[-1]) + 1)
        self._check_there(key, rows)
        return block[rows - rows[0]]

    def statistics(self) -> DatasetStatistics:
        """Statistics of state and action over all frames, kept beside the data while its fingerprint is the same."""
        if not self.records:
            raise DatasetError(f"{self.path} has no episodes to take statistics of")
        file = self.path / STATISTICS_FILE
        if (kept := self._kept_statistics(file)) is not None:
            return kept
        statistics = DatasetStatistics(
            episodes=len(self),
            frames=self.num_frames,
            state=FieldStatistics.of(self.load(STATE_KEY)),
            action=FieldStatistics.of(self.load(ACTION_KEY)),
        )
        content = {"fingerprint": self.fingerprint, "statistics": statistics.to_dict()}
        try:
            write_text_atomically(file, strict_json(content, indent=1))
        except OSError as error:
            log.warning("statistics are not kept beside the data and will be computed again: %s", error)
        return statistics

    def _kept_statistics(self, file: Path) -> DatasetStatistics | None:
        """Those of an earlier call, if they are of the same episodes."""
        if not file.exists():
            return None
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["fingerprint"] != self.fingerprint:
                return None
            return DatasetStatistics.from_dict(content["statistics"])
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{file} is corrupt; delete it to have it computed anew: {error!r}") from error

    def verify(self) -> None:
        """Decode every chunk of every episode; ``DatasetError`` names the first that is damaged."""
        for index, record in enumerate(self.records):
            check_stored_bytes(self.path, self.header, record)
            try:
                validate_episode(self.episode(index), self.header.fields)
            except ValueError as error:
                raise DatasetError(f"{self.path}: episode {record.index} is corrupt: {error}") from error

    def info(self) -> dict[str, Any]:
        """What the store holds, as a JSON-ready dict: counts per task, fields, sizes, failures, what made it."""
        episodes, successes = Counter(r.task for r in self.records), Counter(r.task for r in self.records if r.success)
        stored = {key: sum(record.stored_bytes[key] for record in self.records) for key in self._specs}
        failures = [number for number, record in enumerate(self.records) if not record.success]
        left_out = LeftOut.read(self.path)
        return {
            "path": str(self.path),
            "format_version": FORMAT_VERSION,
            "embodiment": self.embodiment.name,
            "control_rate_hz": self.embodiment.control_rate_hz,
            "episodes": len(self),
            "frames": self.num_frames,
            "duration_s": self.num_frames / self.embodiment.control_rate_hz,
            "fingerprint": self.fingerprint,
            "instructions": len({record.instruction for record in self.records}),
            "tasks": {
                task: {"episodes": count, "successes": successes[task]} for task, count in sorted(episodes.items())
            },
            "fields": {
                key: {"dtype": spec.dtype, "shape": list(spec.shape), "stored_bytes": stored[key]}
                for key, spec in self._specs.items()
            },
            "stored_bytes": sum(stored.values()),
            "decoded_bytes": self.num_frames * sum(spec.frame_bytes for spec in self._specs.values()),
            "failed_episodes": failures,
            "left_out_seeds": {"failed": ordered(left_out.failed), "elsewhere": ordered(left_out.elsewhere)},
            "removed_episodes": len(read_removed(self.path)),
            "settings": dict(self.settings),
        }

    def episode_of(self, frames: Int[np.ndarray, "*b"]) -> Int[np.ndarray, "*b"]:
        """The episode that each frame belongs to."""
        return np.searchsorted(self._end_frames, frames, side="right")

    def _rows(self, frames: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
        """Array rows of frames; ``IndexError`` outside 0 … ``num_frames − 1``."""
        if len(frames) and not (frames.min() >= 0 and frames.max() < self.num_frames):
            raise IndexError(f"frames must lie in 0…{self.num_frames - 1}, got {frames.min()}…{frames.max()}")
        episode = self.episode_of(frames)
        ends = self._end_frames[episode]
        lengths = np.diff(self._end_frames, prepend=0)[episode]
        return self._first_rows[episode] + frames - (ends - lengths)

    def _decode(self, key: str, first_row: int, end_row: int) -> Shaped[np.ndarray, "t ..."]:
        try:
            return np.asarray(self._arrays[key][first_row:end_row])
        except (RuntimeError, ValueError, OSError) as error:
            raise self._decode_error(key, first_row, end_row, error) from error

    def _check_there(self, key: str, rows: Int[np.ndarray, " b"]) -> None:
        """``DatasetError`` if a chunk of these rows, just decoded, has gone since the store was opened.

        An array without the file reads as zeros.
        """
        step = self._arrays[key].chunks[0]
        for row in np.unique(rows // step) * step:
            file = chunk_files(self.path, self._specs[key], int(row), 1)[0]
            if not file.exists():
                raise DatasetError(
                    f"{file} is gone since {self.path} was opened: was its episode removed? Open it again"
                )

    def _decode_error(self, key: str, first_row: int, end_row: int, error: Exception) -> DatasetError:
        """The error that names the first damaged chunk file in these rows, and its episode."""
        spec, array = self._specs[key], self._arrays[key]
        for record in self.records:
            start, end = max(record.first_row, first_row), min(record.end_row, end_row)
            step = array.chunks[0]
            for row in range(start - start % step, end, step):
                if not _decodes(array, row):
                    file = chunk_files(self.path, spec, row, 1)[0]
                    return DatasetError(f"episode {record.index} is corrupt: cannot decode {file}: {error}")
        return DatasetError(f"{self.path}: cannot decode {key} rows {first_row}…{end_row - 1}: {error}")


def _decodes(array: zarr.Array, row: int) -> bool:
    try:
        array[row]
    except (RuntimeError, ValueError, OSError):
        return False
    return True

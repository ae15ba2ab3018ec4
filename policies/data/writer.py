"""Recording: appends whole episodes to a demonstration store, or nothing."""

import fcntl
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import zarr

from envs.specs import EmbodimentSpec
from policies.data.episode import Episode, validate_episode
from policies.data.layout import (
    RECORDS_DIR,
    DatasetError,
    EpisodeRecord,
    StoreHeader,
    aligned_row,
    check_stored_bytes,
    chunk_files,
    create_arrays,
    open_arrays,
    read_records,
    record_path,
    stored_bytes,
)
from vla.durable import fsync_path, write_text_atomically

LOCK_FILE = "writer.lock"
GROWTH_ROWS = 4096
"""Arrays grow by this many rows at a time, and are cut to what they hold when the writer closes."""


class DemonstrationWriter:
    """Appends episodes to a store; use it as a context manager, or call :meth:`close`.

    :meth:`append` is atomic and durable: when it returns, the episode survives a kill and a power
    cut; before that, a kill leaves the store as it was. Readers see committed episodes only. One
    writer at a time: the lock is the kernel's and ends with the process, however that dies.
    """

    def __init__(self, path: Path, header: StoreHeader, lock: IO[str]) -> None:
        """Take over a locked store; callers use :meth:`create` or :meth:`open`."""
        self.path = path
        self.header = header
        self._lock = lock
        self._fields = header.fields
        _remove_leftovers(path, header)
        records = read_records(path)
        for record in records:
            check_stored_bytes(path, header, record)
        self._episodes = len(records)
        self._next_row = aligned_row(records[-1].end_row) if records else 0
        self._arrays = open_arrays(path, header, records[-1].end_row if records else 0, writable=True)
        self._cut_arrays()

    @classmethod
    def create(
        cls,
        path: Path | str,
        embodiment: EmbodimentSpec,
        *,
        settings: Mapping[str, Any] | None = None,
        geometry: bool = False,
        phase: bool = False,
    ) -> "DemonstrationWriter":
        """A new, empty store at ``path``, opened for writing.

        ``settings`` is a free JSON dict that says how the data were made (render profile, …). With
        ``geometry`` every episode carries its cameras' intrinsics and extrinsics, with ``phase`` the
        expert's phase. Raises ``FileExistsError`` if ``path`` exists.
        """
        path = Path(path)
        if path.exists():
            raise FileExistsError(f"{path} exists: open it to append to it, or choose another path")
        header = StoreHeader(embodiment=embodiment, settings=settings or {}, geometry=geometry, phase=phase)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as aside:
            store = Path(aside) / path.name
            create_arrays(store, header)
            store.rename(path)
        fsync_path(path.parent)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path | str) -> "DemonstrationWriter":
        """Open a store to append to it; what a killed writer had not committed is removed.

        Raises ``DatasetError`` if the store is missing, damaged or held by another writer.
        """
        path = Path(path)
        header = StoreHeader.read(path)
        lock = _lock(path)
        try:
            return cls(path, header, lock)
        except BaseException:
            lock.close()
            raise

    def __len__(self) -> int:
        return self._episodes

    def append(self, episode: Episode) -> int:
        """Commit one episode and return its index.

        Raises ``ValueError`` for an episode that does not fit the embodiment, before anything is written.
        """
        if self._lock.closed:
            raise ValueError(f"the writer of {self.path} is closed")
        validate_episode(episode, self._fields)
        first_row, length = self._next_row, len(episode)
        arrays = episode.fields()
        for spec in self._fields:
            files = chunk_files(self.path, spec, first_row, length)
            for file in files:  # of an append that failed: its rows must not live on as padding
                file.unlink(missing_ok=True)
            self._write_rows(self._arrays[spec.key], first_row, arrays[spec.key])
            for file in files:
                fsync_path(file)
            fsync_path(self.path / spec.key)
        record = EpisodeRecord(
            index=self._episodes,
            first_row=first_row,
            length=length,
            instruction=episode.instruction,
            task=episode.task,
            success=bool(episode.success),
            seed=int(episode.seed),
            stored_bytes={spec.key: stored_bytes(self.path, spec, first_row, length) for spec in self._fields},
        )
        write_text_atomically(record_path(self.path, record.index), record.to_json())
        self._episodes += 1
        self._next_row = aligned_row(record.end_row)
        return record.index

    def close(self) -> None:
        """Release the store; safe to call twice."""
        if not self._lock.closed:
            self._cut_arrays()
            self._lock.close()

    def __enter__(self) -> "DemonstrationWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _write_rows(self, array: zarr.Array, first_row: int, rows: np.ndarray) -> None:
        end = first_row + len(rows)
        if array.shape[0] < end:
            array.resize((aligned_row(end) + GROWTH_ROWS, *array.shape[1:]))
            fsync_path(self.path / array.basename / "zarr.json")
        array[first_row:end] = rows

    def _cut_arrays(self) -> None:
        """Cut every array to the committed rows, which deletes the chunks that lie beyond."""
        for array in self._arrays.values():
            if array.shape[0] > self._next_row:
                array.resize((self._next_row, *array.shape[1:]))


def _lock(path: Path) -> IO[str]:
    """The open, locked file that makes this process the store's only writer."""
    file = (path / LOCK_FILE).open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise DatasetError(f"{path} is being written by process {holder}: a store has one writer at a time") from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _remove_leftovers(path: Path, header: StoreHeader) -> None:
    """Delete the files that a killed writer had written aside and not yet renamed."""
    for folder in (path / RECORDS_DIR, *(path / spec.key for spec in header.fields)):
        for leftover in (*folder.glob("*.tmp"), *folder.glob("*.partial")):
            leftover.unlink()

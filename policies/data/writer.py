"""Recording: appends whole episodes to a demonstration store, or nothing."""

import errno
import os
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import zarr

from envs.specs import EmbodimentSpec
from policies.data.episode import Episode, validate_episode
from policies.data.layout import (
    RECORDS_DIR,
    REMOVED_FILE,
    DatasetError,
    EpisodeRecord,
    StoreHeader,
    aligned_row,
    all_records,
    check_stored_bytes,
    chunk_files,
    create_arrays,
    open_arrays,
    read_records,
    read_removed,
    record_path,
    stored_bytes,
)
from vla.durable import fsync_path, lock_file, naming, write_text_atomically
from vla.strict_json import strict_json

LOCK_FILE = "writer.lock"
GROWTH_ROWS = 4096
"""Arrays grow by this many rows at a time, and are cut to what they hold when the writer closes."""


class DemonstrationWriter:
    """Appends episodes to a store; use it as a context manager, or call :meth:`close`.

    :meth:`append` is atomic and durable: when it returns, the episode survives a kill and a power
    cut; before that, a kill leaves the store as it was. Readers see committed episodes only. One
    writer at a time: the lock is the kernel's and ends with the process, however that dies, and no process
    forked from it keeps it. An append that fails, as on a full disk, raises ``OSError`` with the file and the
    remedy, and leaves the store as it was. So does opening a store on a disk that cannot lock files.
    """

    def __init__(self, path: Path, header: StoreHeader, lock: IO[bytes]) -> None:
        """Take over a locked store; callers use :meth:`create` or :meth:`open`."""
        self.path = path
        self.header = header
        self._lock = lock
        self._fields = header.fields
        _remove_leftovers(path, header)
        self._records = list(read_records(path))
        for record in self._records:
            check_stored_bytes(path, header, record)
        ever = all_records(path)
        held = {record.index for record in self._records}
        for record in ever:
            if record.index not in held:
                self._delete_chunks(record.first_row, record.length)
        self._next_index = len(ever)
        self._next_row = aligned_row(ever[-1].end_row) if ever else 0
        self._arrays = open_arrays(path, header, ever[-1].end_row if ever else 0, writable=True)
        with naming(path):
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
        actor: bool = False,
        times: bool = False,
    ) -> "DemonstrationWriter":
        """A new, empty store at ``path``, opened for writing.

        ``settings`` is a free JSON dict that says how the data were made (render profile, …). With
        ``geometry`` every episode carries its cameras' intrinsics and extrinsics, with ``phase`` the
        expert's phase, with ``actor`` who acted, with ``times`` when each frame was taken. Raises
        ``FileExistsError`` if ``path`` exists or another process makes it meanwhile.
        """
        held = {"geometry": geometry, "phase": phase, "actor": actor, "times": times}
        return cls.create_like(path, StoreHeader(embodiment=embodiment, settings=settings or {}, **held))

    @classmethod
    def create_like(cls, path: Path | str, header: StoreHeader) -> "DemonstrationWriter":
        """The same for a header, as of a store that this one is to take episodes of."""
        path = Path(path)
        exists = FileExistsError(f"{path} exists: open it to append to it, or choose another path")
        if path.exists():
            raise exists
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as aside:
                store = Path(aside) / path.name
                create_arrays(store, header)
                lock = _lock(path, store)  # before it has its name, so that nobody can come first
                try:
                    store.rename(path)
                except OSError as error:
                    lock.close()
                    raise exists if error.errno in (errno.ENOTEMPTY, errno.EEXIST) else error from error
            fsync_path(path.parent)
        return cls(path, header, lock)

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
        return len(self._records)

    def append(self, episode: Episode) -> int:
        """Commit one episode and return its number among those that the store holds.

        Raises ``ValueError`` for an episode that does not fit the embodiment, before anything is written;
        ``OSError`` where it cannot be written, after which the writer can go on.
        """
        self._check_open()
        validate_episode(episode, self._fields)
        first_row, length = self._next_row, len(episode)
        self._delete_chunks(first_row, length)  # of an append that failed: its rows must not live on as padding
        try:
            record = self._commit(episode, first_row, length)
        except OSError:
            with suppress(OSError):  # what had been written of it only takes room
                self._delete_chunks(first_row, length)
            raise
        self._records.append(record)
        self._next_index += 1
        self._next_row = aligned_row(record.end_row)
        return len(self) - 1

    def remove(self, numbers: Collection[int]) -> None:
        """Take out the episodes of these numbers for good; the rest are then numbered anew, in the same order.

        All or none: a single rename decides, and the data are deleted after it. ``ValueError`` for a number that
        the store does not have.
        """
        self._check_open()
        if not set(numbers) <= set(range(len(self))):
            raise ValueError(
                f"{self.path} has {len(self)} episodes, numbered from 0, asked to remove {sorted(numbers)}"
            )
        doomed = [self._records[number] for number in sorted(set(numbers))]
        gone = read_removed(self.path) | {record.index for record in doomed}
        write_text_atomically(self.path / REMOVED_FILE, strict_json(sorted(gone)))
        self._records = [record for record in self._records if record.index not in gone]
        for record in doomed:
            self._delete_chunks(record.first_row, record.length)

    def _commit(self, episode: Episode, first_row: int, length: int) -> EpisodeRecord:
        """Write the rows, then the record that makes them count."""
        arrays = episode.fields()
        for spec in self._fields:
            with naming(self.path / spec.key):
                self._write_rows(self._arrays[spec.key], first_row, arrays[spec.key])
                for file in chunk_files(self.path, spec, first_row, length):
                    fsync_path(file)
                fsync_path(self.path / spec.key)
        record = EpisodeRecord(
            index=self._next_index,
            first_row=first_row,
            length=length,
            instruction=episode.instruction,
            task=episode.task,
            success=bool(episode.success),
            seed=int(episode.seed),
            stored_bytes={spec.key: stored_bytes(self.path, spec, first_row, length) for spec in self._fields},
        )
        write_text_atomically(record_path(self.path, record.index), record.to_json())
        return record

    def close(self) -> None:
        """Release the store; safe to call twice."""
        if not self._lock.closed:
            with suppress(OSError):  # a full disk: whoever opens the store next will cut them
                self._cut_arrays()
            self._lock.close()

    def __enter__(self) -> "DemonstrationWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._lock.closed:
            raise ValueError(f"the writer of {self.path} is closed")

    def _delete_chunks(self, first_row: int, length: int) -> None:
        """Delete the chunk files of these rows, where there are any."""
        for spec in self._fields:
            for file in chunk_files(self.path, spec, first_row, length):
                file.unlink(missing_ok=True)

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


def _lock(path: Path, folder: Path | None = None) -> IO[bytes]:
    """The open, locked file that makes this process the only writer of the store at ``path``.

    A store that does not have its name yet lies in ``folder``.
    """
    place = (folder or path) / LOCK_FILE
    with naming(place):
        file = place.open("a+b", buffering=0)
    remedy = "record into a folder on a disk of this machine, or have locks switched on for the network disk"
    try:
        lock_file(file, remedy)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().decode(errors="replace").strip() or "unknown"
        file.close()
        busy = f"{path} is being written by process {holder}"
        raise DatasetError(f"{busy}: wait until it has ended, or record into another folder") from error
    except OSError as error:
        file.close()
        error.filename = str(path / LOCK_FILE)
        raise
    with suppress(OSError):  # a full disk: then nobody learns who holds it
        file.truncate(0)
        file.write(str(os.getpid()).encode())
    return file


def _remove_leftovers(path: Path, header: StoreHeader) -> None:
    """Delete the files that a killed writer had written aside and not yet renamed."""
    for folder in (path / RECORDS_DIR, *(path / spec.key for spec in header.fields)):
        for leftover in (*folder.glob("*.tmp"), *folder.glob("*.partial")):
            leftover.unlink()

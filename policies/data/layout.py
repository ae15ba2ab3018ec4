"""How a demonstration store lies on disk.

A store is one directory and one zarr v3 group::

    zarr.json                        format, version, embodiment, creation settings
    observation.images.front/        one array per field, all episodes one after the other on axis 0
        zarr.json  c.0.0.0.0  …      a chunk holds some frames of one episode (zstd with checksum)
    episodes/000000.json  …          one commit record per episode
    removed.json                     the numbers of the records whose episodes were taken out again
    left_out.json                    seeds that a recording tried and the store does not hold
    writer.lock
    statistics.json  decoded/        kept to be found again, as features/, what teachers said of its frames;
                                     and renders/, its films; all may be deleted

An episode begins at a multiple of ``ROW_ALIGNMENT`` rows, which every field's chunk length divides.
So a chunk never holds two episodes: an append writes new chunk files only, never one that holds
committed data, and is made valid by the single rename of its commit record. Rows between an
episode's end and the next multiple are padding and belong to nobody. The records, not the arrays'
lengths, say what the store holds. An episode is taken out by the single rename of ``removed.json``; its
chunks are deleted after that, and its record stays, so that no row is ever used twice.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import zarr
from zarr.codecs import ZstdCodec

from envs.specs import EmbodimentSpec
from policies.data.episode import FieldSpec, episode_fields
from vla.durable import fsync_path
from vla.strict_json import strict_json

FORMAT = "vla-stack demonstrations"
FORMAT_VERSION = 1
RECORDS_DIR = "episodes"
REMOVED_FILE = "removed.json"
ROW_ALIGNMENT = 64
"""Episodes start at multiples of this many rows."""
CHUNK_BYTES = 512 * 1024
"""Largest uncompressed chunk: 32 frames of a 64 px image, 8 of a 128 px one."""


class DatasetError(RuntimeError):
    """A store that is missing, truncated, corrupt, of another format, or in use by another writer."""


@dataclass(frozen=True, kw_only=True)
class StoreHeader:
    """What is fixed when a store is created; ``settings`` is a free JSON dict (render profile, …).

    ``geometry``, ``phase``, ``actor`` and ``times`` say what episodes hold besides: see ``policies.data.episode``.
    """

    embodiment: EmbodimentSpec
    settings: Mapping[str, Any]
    geometry: bool
    phase: bool
    actor: bool = False
    times: bool = False

    @property
    def fields(self) -> tuple[FieldSpec, ...]:
        held = {"geometry": self.geometry, "phase": self.phase, "actor": self.actor, "times": self.times}
        return episode_fields(self.embodiment, **held)

    def to_attributes(self) -> dict[str, Any]:
        """The group's attributes; :meth:`read` is the inverse."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "embodiment": self.embodiment.to_dict(),
            "geometry": self.geometry,
            "phase": self.phase,
            **({"actor": True} if self.actor else {}),
            **({"times": True} if self.times else {}),
            "settings": dict(self.settings),
        }

    @classmethod
    def read(cls, path: Path) -> "StoreHeader":
        """The header of the store at ``path``; ``DatasetError`` if there is none that we can read."""
        file = path / "zarr.json"
        if not file.is_file():
            raise DatasetError(f"{path} is not a demonstration store: expected the file {file}")
        try:
            attributes = json.loads(file.read_text(encoding="utf-8"))["attributes"]
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{file} is corrupt: {error!r}") from error
        return cls.from_attributes(attributes, file)

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any], file: Path) -> "StoreHeader":
        """The header that ``file`` holds; ``DatasetError`` if it is damaged or of another format."""
        try:
            if attributes.get("format") != FORMAT:
                raise DatasetError(f"{file}: expected format {FORMAT!r}, got {attributes.get('format')!r}")
            if attributes["format_version"] != FORMAT_VERSION:
                got = attributes["format_version"]
                raise DatasetError(f"{file}: this version reads format {FORMAT_VERSION}, the store has {got}")
            return cls(
                embodiment=EmbodimentSpec.from_dict(attributes["embodiment"]),
                settings=attributes["settings"],
                geometry=attributes["geometry"],
                phase=attributes["phase"],
                actor=attributes.get("actor", False),
                times=attributes.get("times", False),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(f"{file} is corrupt: {error!r}") from error


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """A commit record: where episode ``index`` lies and what it was.

    Frames are the rows ``first_row … first_row + length − 1`` of every array; ``stored_bytes`` is the
    size on disk of each field's chunk files, by which truncation is noticed when the store is opened.
    """

    index: int
    first_row: int
    length: int
    instruction: str
    task: str
    success: bool
    seed: int
    stored_bytes: Mapping[str, int]

    @property
    def end_row(self) -> int:
        return self.first_row + self.length

    def to_json(self) -> str:
        return strict_json(asdict(self), ensure_ascii=False)


def record_path(path: Path, index: int) -> Path:
    """File of one commit record."""
    return path / RECORDS_DIR / f"{index:06d}.json"


def read_records(path: Path) -> tuple[EpisodeRecord, ...]:
    """The commit records of the episodes that the store holds, in order; ``DatasetError`` as :func:`all_records`."""
    records, removed = all_records(path), read_removed(path)
    if unknown := removed - {record.index for record in records}:
        raise DatasetError(f"{path / REMOVED_FILE} is corrupt: it names the records {sorted(unknown)}, which are none")
    return tuple(record for record in records if record.index not in removed)


def read_removed(path: Path) -> frozenset[int]:
    """The numbers of the records whose episodes were taken out; ``DatasetError`` for a file that cannot be read."""
    numbers = read_json(path / REMOVED_FILE, "restore it from a copy", default=[])
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise DatasetError(f"{path / REMOVED_FILE} is corrupt: expected a list of whole numbers, got {numbers!r}")
    return frozenset(numbers)


def read_json(file: Path, remedy: str, default: Any) -> Any:
    """What a side file holds, ``default`` where there is none; ``DatasetError`` says what is wrong, and ``remedy``."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file} cannot be read: {error}; {remedy}") from error


def all_records(path: Path) -> tuple[EpisodeRecord, ...]:
    """All commit records, those of removed episodes too; ``DatasetError`` names one that is missing or malformed."""
    folder = path / RECORDS_DIR
    if not folder.is_dir():
        raise DatasetError(f"{path} is not a whole demonstration store: expected the directory {folder}")
    files = sorted((f for f in folder.iterdir() if re.fullmatch(r"\d{6,}\.json", f.name)), key=lambda f: int(f.stem))
    records, next_row = [], 0
    for index, file in enumerate(files):
        if int(file.stem) != index:
            raise DatasetError(f"episode {index} is missing: {record_path(path, index)} does not exist, {file} does")
        try:
            record = EpisodeRecord(**json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise DatasetError(f"episode {index}: {file} is corrupt: {error}") from error
        if record.index != index or record.first_row != next_row or record.length < 1:
            raise DatasetError(
                f"episode {index}: {file} is corrupt: expected rows from {next_row}, "
                f"got {record.length} rows from {record.first_row} as episode {record.index}"
            )
        records.append(record)
        next_row = aligned_row(record.end_row)
    return tuple(records)


def aligned_row(row: int) -> int:
    """The first row at or after ``row`` where an episode may begin."""
    return -(-row // ROW_ALIGNMENT) * ROW_ALIGNMENT


def chunk_rows(spec: FieldSpec) -> int:
    """Frames per chunk: the largest power of two up to ``ROW_ALIGNMENT`` within ``CHUNK_BYTES``."""
    rows = ROW_ALIGNMENT
    while rows > 1 and rows * spec.frame_bytes > CHUNK_BYTES:
        rows //= 2
    return rows


def chunk_files(path: Path, spec: FieldSpec, first_row: int, length: int) -> list[Path]:
    """The chunk files that hold ``length`` rows of a field from ``first_row`` on."""
    rows = chunk_rows(spec)
    tail = ".0" * len(spec.shape)
    chunks = range(first_row // rows, -(-(first_row + length) // rows))
    return [path / spec.key / f"c.{chunk}{tail}" for chunk in chunks]


def create_arrays(path: Path, header: StoreHeader) -> None:
    """Lay out an empty store in the directory ``path``; ``ValueError`` for a number in it that is not finite."""
    strict_json(header.to_attributes())  # zarr would write what no other program reads
    group = zarr.create_group(path, zarr_format=3, attributes=header.to_attributes())
    for spec in header.fields:
        group.create_array(
            spec.key,
            shape=(0, *spec.shape),
            dtype=spec.dtype,
            chunks=(chunk_rows(spec), *spec.shape),
            compressors=[ZstdCodec(level=3, checksum=True)],
            chunk_key_encoding={"name": "default", "separator": "."},
        )
    (path / RECORDS_DIR).mkdir()
    for file in (*path.rglob("zarr.json"), path):
        fsync_path(file)


def open_arrays(path: Path, header: StoreHeader, rows: int, *, writable: bool) -> dict[str, zarr.Array]:
    """The arrays of a store by field key, each at least ``rows`` long.

    An array whose chunks are all zero is still written, so that a missing file is always a fault.
    """
    arrays = {}
    for spec in header.fields:
        folder = path / spec.key
        try:
            with zarr.config.set({"array.write_empty_chunks": True}):
                array = zarr.open_array(folder, mode="r+" if writable else "r")
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise DatasetError(f"field {spec.key}: {folder / 'zarr.json'} is missing or corrupt: {error}") from error
        expected = (str(spec.dtype), spec.shape, (chunk_rows(spec), *spec.shape))
        got = (str(array.dtype), tuple(array.shape[1:]), tuple(array.chunks))
        if expected != got or array.shape[0] < rows:
            raise DatasetError(
                f"field {spec.key}: {folder / 'zarr.json'} is corrupt: expected (dtype, frame, chunk) {expected} "
                f"and at least {rows} rows, got {got} and {array.shape[0]} rows"
            )
        arrays[spec.key] = array
    return arrays


def stored_bytes(path: Path, spec: FieldSpec, first_row: int, length: int) -> int:
    """Bytes on disk of the chunk files of these rows; a file that is missing counts nothing."""
    return sum(file.stat().st_size for file in chunk_files(path, spec, first_row, length) if file.exists())


def chunk_checksum(file: Path) -> bytes:
    """The zstd checksum of a chunk's decoded content, the last 4 bytes of its file (RFC 8878, section 3.1.1).

    It says what the chunk holds, whatever the compression, and is read without decoding.
    """
    with file.open("rb") as stream:
        stream.seek(-4, os.SEEK_END)
        return stream.read()


def check_stored_bytes(path: Path, header: StoreHeader, record: EpisodeRecord) -> None:
    """Compare the sizes of an episode's chunk files with its record; ``DatasetError`` names the field."""
    for spec in header.fields:
        expected = record.stored_bytes.get(spec.key)
        got = stored_bytes(path, spec, record.first_row, record.length)
        if got != expected:
            files = chunk_files(path, spec, record.first_row, record.length)
            missing = [str(file) for file in files if not file.exists()]
            what = f"{missing[0]} is missing" if missing else f"expected {expected} bytes in all, got {got}"
            raise DatasetError(f"episode {record.index} is truncated: {files[0]} … {files[-1].name}: {what}")

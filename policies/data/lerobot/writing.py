"""Writing a LeRobotDataset, v3.0 or v2.1, episode by episode."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped

from policies.data.episode import Episode
from policies.data.layout import StoreHeader
from policies.data.lerobot.layout import (
    CHUNKS_SIZE,
    COUNTERS,
    DATA_FILE_MB,
    DATA_PATH,
    EPISODE_FACTS,
    EPISODES_FILE,
    EPISODES_PATH,
    EPISODES_STATS_FILE,
    INFO_FILE,
    MODALITY_FILE,
    OURS_FILE,
    STATS_FILE,
    TASKS_FILE,
    VIDEO_FILE_MB,
    VIDEO_PATH,
    Feature,
    Pictures,
    Version,
    data_schema,
    features_of,
    numbered,
)
from policies.data.lerobot.modality import modality
from policies.data.lerobot.pictures import VideoWriter, encode_png
from policies.data.lerobot.statistics import (
    LARGEST,
    Statistics,
    as_lists,
    number_statistics,
    picture_statistics,
    pixel_counts,
)
from policies.data.lerobot.tables import RowGroups, number_column, tasks_table, write_lines, write_table
from vla.durable import fsync_path
from vla.strict_json import strict_json

V2_STATISTICS = ("min", "max", "mean", "std", "count")


def whole_rate(control_rate_hz: float) -> int:
    """Frames per second, which LeRobot wants whole; ``ValueError`` where they are not."""
    if control_rate_hz != int(control_rate_hz):
        raise ValueError(f"LeRobot's datasets have whole frames per second, the robot has {control_rate_hz}")
    return int(control_rate_hz)


File = TypeVar("File", RowGroups, VideoWriter)


class _Files(Generic[File]):
    """Files of one kind, numbered from 0: each takes episodes until it has ``limit_mb`` (0: one episode)."""

    def __init__(self, start: Callable[[int], File], limit_mb: int) -> None:
        self._start, self._limit = start, limit_mb * 2**20
        self._number, self._file = -1, None

    def room(self) -> File:
        """The file that the next episode goes into."""
        if self._file is None or self._file.bytes >= self._limit:
            self.close()
            self._number += 1
            self._file = self._start(self._number)
        return self._file

    @property
    def place(self) -> tuple[int, int]:
        """Chunk and file that the last episode went into."""
        return divmod(self._number, CHUNKS_SIZE)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class LeRobotWriter:
    """A new dataset in the folder ``path``, which is whole once :meth:`finish` returns.

    ``ours`` is kept in ``meta/vla.json``. With ``video`` every camera's pictures become mp4 files, with ``png`` they
    lie in the data files. ``ValueError`` for a control rate that is no whole number.
    """

    def __init__(
        self, path: Path, header: StoreHeader, version: Version, pictures: Pictures, ours: Mapping[str, Any]
    ) -> None:
        self.path, self.header, self._ours = path, header, ours
        self.version: Version = version
        self.fps = whole_rate(header.embodiment.control_rate_hz)
        self.features = features_of(header.embodiment, header.fields, self.fps, pictures)
        self._schema = data_schema(self.features)
        single = version == "v2.1"
        self._data = _Files(self._start_data, 0 if single else DATA_FILE_MB)
        self._videos = {
            feature.key: _Files(partial(self._start_video, feature), 0 if single else VIDEO_FILE_MB)
            for feature in self.features
            if feature.dtype == "video"
        }
        self._instructions: list[str] = []
        self._rows: list[dict[str, Any]] = []
        self._episode_statistics: list[dict[str, Statistics]] = []
        self._numbers: dict[str, list[np.ndarray]] = {}
        self._pixels: dict[str, np.ndarray] = {}
        self._frames = 0

    def append(self, episode: Episode) -> None:
        """Add one episode; ``OSError`` where it cannot be written."""
        number, length = len(self._rows), len(episode)
        if episode.instruction not in self._instructions:
            self._instructions.append(episode.instruction)
        arrays = episode.fields() | self._counters(number, length, self._instructions.index(episode.instruction))
        self._episode_statistics.append({f.key: s for f in self.features if (s := self._statistics(f, arrays[f.key]))})
        places = self._write_data(number, arrays)
        for key in self._videos:
            places |= self._write_video(key, arrays[key])
        facts = zip(EPISODE_FACTS, (episode.task, bool(episode.success), int(episode.seed)), strict=True)
        row = {"episode_index": number, "tasks": [episode.instruction], "length": length}
        spans = {"dataset_from_index": self._frames, "dataset_to_index": self._frames + length}
        self._rows.append(row | (places | spans if self.version == "v3.0" else {}) | dict(facts))
        self._frames += length

    def finish(self) -> None:
        """Close every file and write the metadata; ``ValueError`` without an episode."""
        if not self._rows:
            raise ValueError("a LeRobot dataset needs at least one episode, got none")
        for files in (self._data, *self._videos.values()):
            files.close()
        if self.version == "v3.0":
            write_table(self.path / TASKS_FILE["v3.0"], tasks_table(self._instructions))
            self._write_episodes()
        else:
            self._write_lines()
        self._write_json(STATS_FILE, {key: as_lists(statistics) for key, statistics in self._of_all().items()})
        self._write_json(OURS_FILE, self._ours)
        self._write_json(INFO_FILE, self._info())
        for path in (*self.path.rglob("*"), self.path):
            fsync_path(path)

    def _counters(self, number: int, length: int, task: int) -> dict[str, Shaped[np.ndarray, " t"]]:
        frame = np.arange(length)
        columns = (frame / self.fps, frame, np.full(length, number), self._frames + frame, np.full(length, task))
        return {key: c.astype(dtype) for (key, dtype), c in zip(COUNTERS.items(), columns, strict=True)}

    def _statistics(self, feature: Feature, values: np.ndarray) -> Statistics | None:
        """Those of one episode's field, which is kept for the statistics of all; None for one that is too large."""
        if feature.is_picture:
            counts = pixel_counts(values)
            self._pixels[feature.key] = self._pixels.get(feature.key, 0) + counts
            return picture_statistics(counts, len(values))
        if np.prod(feature.shape) > LARGEST:
            return None
        self._numbers.setdefault(feature.key, []).append(values)
        return number_statistics(values)

    def _of_all(self) -> dict[str, Statistics]:
        numbers = {key: number_statistics(np.concatenate(parts)) for key, parts in self._numbers.items()}
        pictures = {key: picture_statistics(counts, self._frames) for key, counts in self._pixels.items()}
        return {f.key: (numbers | pictures)[f.key] for f in self.features if f.key in numbers or f.key in pictures}

    def _start_data(self, number: int) -> RowGroups:
        return RowGroups(self.path / numbered(DATA_PATH[self.version], number), self._schema)

    def _start_video(self, feature: Feature, number: int) -> VideoWriter:
        height, width, _ = feature.shape
        path = self.path / numbered(VIDEO_PATH[self.version], number, feature.key)
        return VideoWriter(path, (height, width), self.fps)

    def _write_data(self, number: int, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Write the rows of an episode; where they lie, by the columns of the table of episodes."""
        columns = [_column(field, arrays[field.name], number) for field in self._schema]
        self._data.room().write(pa.Table.from_arrays(columns, schema=self._schema))
        return dict(zip(("data/chunk_index", "data/file_index"), self._data.place, strict=True))

    def _write_video(self, key: str, pictures: np.ndarray) -> dict[str, Any]:
        """The same for an episode of one camera. Times are frames over the rate, never sums of durations."""
        video = self._videos[key].room()
        first = video.frames
        video.write(pictures)
        chunk, file = self._videos[key].place
        place = {"chunk_index": chunk, "file_index": file}
        place |= {"from_timestamp": first / self.fps, "to_timestamp": video.frames / self.fps}
        return {f"videos/{key}/{name}": value for name, value in place.items()}

    def _write_episodes(self) -> None:
        """The table of episodes of v3.0."""
        rows = []
        for row, statistics in zip(self._rows, self._episode_statistics, strict=True):
            flat = {
                f"stats/{key}/{name}": values
                for key, columns in statistics.items()
                for name, values in as_lists(columns).items()
            }
            rows.append(row | flat | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
        write_table(self.path / numbered(EPISODES_PATH, 0), pa.Table.from_pylist(rows))

    def _write_lines(self) -> None:
        """The metadata of v2.1, and GR00T's."""
        tasks = [{"task_index": index, "task": task} for index, task in enumerate(self._instructions)]
        write_lines(self.path / TASKS_FILE["v2.1"], tasks)
        write_lines(self.path / EPISODES_FILE, self._rows)
        statistics = [
            {"episode_index": number, "stats": {key: as_lists(s, V2_STATISTICS) for key, s in of_episode.items()}}
            for number, of_episode in enumerate(self._episode_statistics)
        ]
        write_lines(self.path / EPISODES_STATS_FILE, statistics)
        self._write_json(MODALITY_FILE, modality(self.header.embodiment))

    def _info(self) -> dict[str, Any]:
        episodes = len(self._rows)
        info: dict[str, Any] = {
            "codebase_version": self.version,
            "robot_type": self.header.embodiment.name,
            "total_episodes": episodes,
            "total_frames": self._frames,
            "total_tasks": len(self._instructions),
            "chunks_size": CHUNKS_SIZE,
            "fps": self.fps,
            "splits": {"train": f"0:{episodes}"},
            "data_path": DATA_PATH[self.version],
            "video_path": VIDEO_PATH[self.version] if self._videos else None,
            "features": {feature.key: feature.to_dict() for feature in self.features},
        }
        if self.version == "v3.0":
            return info | {"data_files_size_in_mb": DATA_FILE_MB, "video_files_size_in_mb": VIDEO_FILE_MB}
        return info | {"total_videos": episodes * len(self._videos), "total_chunks": -(-episodes // CHUNKS_SIZE)}

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(strict_json(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def _column(field: pa.Field, values: np.ndarray, episode: int) -> pa.Array:
    """A field of one episode as the column of the data files."""
    if not pa.types.is_struct(field.type):
        return number_column(values, field.type)
    cells = [
        {"bytes": encode_png(picture), "path": f"{field.name}/episode-{episode:06d}/frame-{frame:06d}.png"}
        for frame, picture in enumerate(values)
    ]
    return pa.array(cells, field.type)

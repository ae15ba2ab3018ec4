"""Reading a LeRobotDataset, v3.0 or v2.1, episode by episode, each file decoded once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int, Shaped, UInt8

from policies.data.layout import DatasetError
from policies.data.lerobot.layout import (
    EPISODE_FACTS,
    EPISODES_FILE,
    TASKS_FILE,
    VIDEO_PATH,
    Feature,
    read_features,
    read_info,
)
from policies.data.lerobot.pictures import Size, VideoReader, decode_picture
from policies.data.lerobot.tables import instructions_by_number, numbers_of, read_lines, read_table

VIDEO_COLUMNS = ("chunk_index", "file_index", "from_timestamp")
"""What the table of episodes must say of each camera."""


@dataclass(frozen=True, kw_only=True)
class VideoPlace:
    """Where an episode of one camera lies: from frame ``first`` on in a file."""

    path: Path
    first: int


@dataclass(frozen=True, kw_only=True)
class EpisodePlace:
    """One episode: its number in the dataset, its rows ``first_row … first_row + length − 1`` in a data file, and what
    the table of episodes says of it.
    """

    number: int
    length: int
    data: Path
    first_row: int
    facts: Mapping[str, Any]
    videos: Mapping[str, VideoPlace]


class LeRobotDataset:
    """The dataset in the folder ``path``. What the data files hold counts, not what the metadata say of them.

    Every ``DatasetError`` names the file, and where they are to blame the episode and the frame.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.info = path, read_info(path)
        self.version, self.fps = self.info["codebase_version"], self.info["fps"]
        tasks = path / TASKS_FILE[self.version]
        rows = read_table(tasks).to_pylist() if self.version == "v3.0" else read_lines(tasks)
        try:
            self.features: dict[str, Feature] = read_features(self.info)
            self.instructions = instructions_by_number(rows)
            self.episodes = self._places()
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise DatasetError(f"the metadata of {path} are corrupt: {error!r}") from error
        self._file: tuple[Path, pq.ParquetFile, np.ndarray] | None = None
        self._group: tuple[tuple[Path, int, int], pa.Table] | None = None
        self._open: dict[tuple[str, Size | None], VideoReader] = {}

    def numbers(self, number: int, key: str) -> Shaped[np.ndarray, "t ..."]:
        """A feature of numbers in episode ``number`` (its place in ``episodes``), as it is stored."""
        place, feature = self.episodes[number], self.features[key]
        try:
            return numbers_of(self._rows(place)[key], feature.shape if feature.shape != (1,) else ())
        except (KeyError, ValueError, pa.ArrowException) as error:
            raise DatasetError(f"episode {place.number}: {place.data} has no usable {key}: {error}") from error

    def pictures(self, number: int, key: str, size: Size | None = None) -> UInt8[np.ndarray, "t h w 3"]:
        """A camera's pictures in episode ``number``, brought to ``size`` while they are decoded."""
        place = self.episodes[number]
        if self.features[key].dtype == "image":
            return self._cells(place, key, size)
        video = place.videos[key]
        try:
            return self._reader(key, video.path, size).read(video.first, place.length)
        except DatasetError as error:
            raise DatasetError(f"episode {place.number}, from frame {video.first} of its video: {error}") from error

    def instruction(self, number: int) -> str:
        """What episode ``number`` is told; ``DatasetError`` where that changes on the way."""
        place = self.episodes[number]
        tasks = self.numbers(number, "task_index")
        if (tasks != tasks[0]).any():
            frame = int((tasks != tasks[0]).argmax())
            raise DatasetError(f"episode {place.number}, frame {frame} of {place.data}: its instruction changes there")
        if not (text := self.instructions.get(int(tasks[0]))):
            file = self.path / TASKS_FILE[self.version]
            raise DatasetError(f"episode {place.number}: {file} has no text for task_index {tasks[0]}")
        return text

    def _rows(self, place: EpisodePlace) -> pa.Table:
        """The rows of one episode; those of the row groups that hold it are kept for the next."""
        try:
            file, ends = self._row_groups(place.data)
            first = int(np.searchsorted(ends, place.first_row, side="right"))
            last = int(np.searchsorted(ends, place.first_row + place.length - 1, side="right"))
            wanted = (place.data, first, last)
            if self._group is None or self._group[0] != wanted:
                self._group = wanted, file.read_row_groups(list(range(first, last + 1)))
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"episode {place.number}: {place.data} cannot be read: {error}") from error
        return self._group[1].slice(place.first_row - (int(ends[first - 1]) if first else 0), place.length)

    def _row_groups(self, path: Path) -> tuple[pq.ParquetFile, Int[np.ndarray, " g"]]:
        """A data file, which stays open until another one is wanted, and the row after each of its row groups."""
        if self._file is None or self._file[0] != path:
            file = pq.ParquetFile(path)
            counts = [file.metadata.row_group(index).num_rows for index in range(file.metadata.num_row_groups)]
            self._file = path, file, np.cumsum(counts)
        return self._file[1:]

    def _cells(self, place: EpisodePlace, key: str, size: Size | None) -> UInt8[np.ndarray, "t h w 3"]:
        """Pictures that lie in the data file, or in a file that it names."""
        pictures = []
        for frame, cell in enumerate(self._rows(place)[key].to_pylist()):
            try:
                content = cell["bytes"] or self._inside(cell["path"]).read_bytes()
                pictures.append(decode_picture(content, size))
            except (ValueError, OSError, TypeError, KeyError) as error:
                where = f"episode {place.number}, frame {frame} of {place.data}"
                raise DatasetError(f"{where}: {key} is no picture: {error}") from error
        return np.stack(pictures)

    def _inside(self, name: str) -> Path:
        """A file that the dataset names; ``ValueError`` for one outside of its folder, which may be anybody's."""
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"expected a file in {self.path}, it names {name!r}")
        return self.path / name

    def _reader(self, key: str, path: Path, size: Size | None) -> VideoReader:
        reader = self._open.get((key, size))
        if reader is None or reader.path != path:
            reader = self._open[key, size] = VideoReader(path, size)
        return reader

    def _places(self) -> tuple[EpisodePlace, ...]:
        facts = {int(row["episode_index"]): row for row in self._episode_rows()}
        places: dict[int, EpisodePlace] = {}
        for file in sorted((self.path / "data").rglob("*.parquet")):
            for number, first, length in _runs(file):
                if number in places:
                    raise DatasetError(f"episode {number} lies in {places[number].data} and, apart from it, in {file}")
                about = facts.get(number, {})
                places[number] = EpisodePlace(
                    number=number, length=length, data=file, first_row=first, facts=about, videos={}
                )
        if not places:
            raise DatasetError(f"{self.path} has no episodes: expected Parquet files in {self.path / 'data'}")
        videos = self._video_places(places, facts)
        return tuple(replace(places[number], videos=videos[number]) for number in sorted(places))

    def _episode_rows(self) -> list[dict[str, Any]]:
        """The table of episodes, without their statistics."""
        if self.version == "v2.1":
            return read_lines(self.path / EPISODES_FILE)
        rows = []
        for file in sorted((self.path / "meta" / "episodes").rglob("*.parquet")):
            names = [name for name in column_names(file) if not name.startswith("stats/")]
            rows += read_table(file, names).to_pylist()
        return rows

    def _video_places(
        self, places: Mapping[int, EpisodePlace], facts: Mapping[int, Mapping[str, Any]]
    ) -> dict[int, dict[str, VideoPlace]]:
        template = self.info.get("video_path") or VIDEO_PATH[self.version]
        found: dict[int, dict[str, VideoPlace]] = {number: {} for number in places}
        for key in (key for key, feature in self.features.items() if feature.dtype == "video"):
            if self.version == "v2.1":
                size = self.info["chunks_size"]
                for number in places:
                    name = template.format(episode_chunk=number // size, episode_index=number, video_key=key)
                    found[number][key] = VideoPlace(path=self._inside(name), first=0)
                continue
            for number, place in self._shared_videos(key, template, places, facts).items():
                found[number][key] = place
        return found

    def _shared_videos(
        self,
        key: str,
        template: str,
        places: Mapping[int, EpisodePlace],
        facts: Mapping[int, Mapping[str, Any]],
    ) -> dict[int, VideoPlace]:
        """One camera's places in files of many episodes.

        Where a file has as many frames as its episodes together, those are counted: start times that were added up from
        durations drift. Else the start times say where an episode begins.
        """
        by_file: dict[Path, list[tuple[float, int]]] = defaultdict(list)
        for number in places:
            try:
                about = {name: facts[number][f"videos/{key}/{name}"] for name in VIDEO_COLUMNS}
            except KeyError as error:
                raise DatasetError(f"episode {number}: the table of episodes in {self.path} lacks {error}") from error
            start = about.pop("from_timestamp")
            by_file[self._inside(template.format(video_key=key, **about))].append((start, number))
        found = {}
        for path, starts in by_file.items():
            lengths = [places[number].length for _, number in sorted(starts)]
            whole = VideoReader(path).frames == sum(lengths)
            counted = np.cumsum([0, *lengths[:-1]])
            for (start, number), count in zip(sorted(starts), counted, strict=True):
                found[number] = VideoPlace(path=path, first=int(count) if whole else round(start * self.fps))
        return found


def _runs(file: Path) -> list[tuple[int, int, int]]:
    """The episodes of a data file: number, first row and length of each; ``DatasetError`` for frames out of order."""
    names = [name for name in ("episode_index", "frame_index") if name in column_names(file)]
    table = read_table(file, names)
    if "episode_index" not in names:
        raise DatasetError(f"{file} has no column episode_index")
    episodes = numbers_of(table["episode_index"], ())
    if not len(episodes):
        return []
    starts = np.flatnonzero(np.diff(episodes, prepend=episodes[0] - 1))
    lengths = np.diff([*starts, len(episodes)])
    if "frame_index" in names:
        expected = np.arange(len(episodes)) - np.repeat(starts, lengths)
        wrong = numbers_of(table["frame_index"], ()) != expected
        if wrong.any():
            row = int(wrong.argmax())
            raise DatasetError(
                f"episode {episodes[row]}, frame {expected[row]} of {file}: its frame_index is "
                f"{table['frame_index'][row]}, so frames are missing or out of order"
            )
    return [(int(episodes[at]), int(at), int(length)) for at, length in zip(starts, lengths, strict=True)]


def column_names(file: Path) -> Sequence[str]:
    """The columns of a Parquet file; ``DatasetError`` for one that is damaged, or was never finished."""
    try:
        return pq.read_schema(file).names
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error


def episode_facts(place: EpisodePlace) -> tuple[str, bool, int] | None:
    """Task, success and seed where the dataset keeps them, as ours do."""
    if not all(name in place.facts for name in EPISODE_FACTS):
        return None
    task, success, seed = (place.facts[name] for name in EPISODE_FACTS)
    return str(task), bool(success), int(seed)

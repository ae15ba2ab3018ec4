"""How a LeRobotDataset lies on disk, v3.0 and v2.1, and what our fields are called in it.

v3.0 puts many episodes into a file::

    meta/info.json  meta/stats.json  meta/tasks.parquet  meta/episodes/chunk-000/file-000.parquet
    data/chunk-000/file-000.parquet                      one row per frame, one row group per episode
    videos/<key>/chunk-000/file-000.mp4                  the episodes of one camera, one after the other

v2.1 has a file per episode, and its metadata as JSON lines::

    meta/info.json  meta/tasks.jsonl  meta/episodes.jsonl  meta/episodes_stats.jsonl
    data/chunk-000/episode_000000.parquet
    videos/chunk-000/<key>/episode_000000.mp4

Ours have ``meta/vla.json`` beside these, which other programs leave alone: what a store's header holds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from envs.specs import ACTION_KEY, STATE_KEY, EmbodimentSpec, image_key
from policies.data.episode import FieldSpec
from policies.data.layout import DatasetError

Version = Literal["v3.0", "v2.1"]
Pictures = Literal["video", "png"]

INFO_FILE = "meta/info.json"
STATS_FILE = "meta/stats.json"
OURS_FILE = "meta/vla.json"
MODALITY_FILE = "meta/modality.json"
TASKS_FILE: Mapping[Version, str] = {"v3.0": "meta/tasks.parquet", "v2.1": "meta/tasks.jsonl"}
EPISODES_FILE = "meta/episodes.jsonl"
EPISODES_STATS_FILE = "meta/episodes_stats.jsonl"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_PATH: Mapping[Version, str] = {
    "v3.0": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    "v2.1": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
}
VIDEO_PATH: Mapping[Version, str] = {
    "v3.0": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    "v2.1": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
}
CHUNKS_SIZE = 1000
"""Files in one chunk folder."""
DATA_FILE_MB, VIDEO_FILE_MB = 100, 200
"""A file of v3.0 takes no further episode once it is as large."""
COUNTERS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""The features that every dataset has: time in the episode in seconds, number of the frame in it, of the episode, of
the frame in the dataset, of the instruction."""
EPISODE_FACTS = ("vla.task", "vla.success", "vla.seed")
"""What our episodes say of themselves beyond LeRobot's columns, in the table of episodes."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One column of a dataset: ``dtype`` is numpy's name for it, ``image``, ``video`` or ``string``."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    names: Sequence[str] | None = None
    info: Mapping[str, Any] | None = None

    @property
    def is_picture(self) -> bool:
        return self.dtype in ("image", "video")

    def to_dict(self) -> dict[str, Any]:
        """Its entry in ``info.json``."""
        names = None if self.names is None else list(self.names)
        entry = {"dtype": self.dtype, "shape": list(self.shape), "names": names}
        return entry | ({} if self.info is None else {"info": dict(self.info)})

    def arrow_type(self) -> pa.DataType:
        """Type of its column; pictures are a file in a cell."""
        if self.dtype == "image":
            return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        number = pa.string() if self.dtype == "string" else pa.from_numpy_dtype(self.dtype)
        if self.shape == (1,):
            return number
        if len(self.shape) == 1:
            return pa.list_(number, self.shape[0])
        for _ in self.shape:
            number = pa.list_(number)
        return number

    def hub_type(self) -> dict[str, Any]:
        """Type of its column in the words of the ``datasets`` library, which v2.1 is read by alone."""
        if self.dtype == "image":
            return {"_type": "Image"}
        if self.shape == (1,):
            return {"dtype": self.dtype, "_type": "Value"}
        if len(self.shape) == 1:
            return {
                "feature": {"dtype": self.dtype, "_type": "Value"},
                "length": self.shape[0],
                "_type": "Sequence",
            }
        return {"shape": list(self.shape), "dtype": self.dtype, "_type": f"Array{len(self.shape)}D"}


def features_of(
    embodiment: EmbodimentSpec, fields: Sequence[FieldSpec], fps: int, pictures: Pictures
) -> tuple[Feature, ...]:
    """The features that a store's fields become, then the counters."""
    images = {image_key(camera.name) for camera in embodiment.cameras}
    names = {
        STATE_KEY: [dim.name for dim in embodiment.state],
        ACTION_KEY: [dim.name for dim in embodiment.action],
    }
    found = []
    for spec in fields:
        if spec.key in images:
            found.append(_picture(spec, fps, pictures))
        else:
            shape = spec.shape or (1,)
            found.append(Feature(key=spec.key, dtype=spec.dtype, shape=shape, names=names.get(spec.key)))
    return (*found, *(Feature(key=key, dtype=dtype, shape=(1,)) for key, dtype in COUNTERS.items()))


def _picture(spec: FieldSpec, fps: int, pictures: Pictures) -> Feature:
    height, width, channels = spec.shape
    names = ("height", "width", "channels")
    if pictures == "png":
        return Feature(key=spec.key, dtype="image", shape=spec.shape, names=names)
    info = {
        "video.height": height,
        "video.width": width,
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": channels,
        "has_audio": False,
    }
    return Feature(key=spec.key, dtype="video", shape=spec.shape, names=names, info=info)


def data_schema(features: Sequence[Feature]) -> pa.Schema:
    """Schema of the data files: every feature but videos, described once more for the ``datasets`` library."""
    columns = [feature for feature in features if feature.dtype != "video"]
    described = {"info": {"features": {feature.key: feature.hub_type() for feature in columns}}}
    return pa.schema(
        [(feature.key, feature.arrow_type()) for feature in columns],
        metadata={"huggingface": json.dumps(described, allow_nan=False)},
    )


def numbered(template: str, number: int, video_key: str = "") -> str:
    """The path of file ``number`` of its kind, counted from 0, by a template of either version."""
    chunk, within = divmod(number, CHUNKS_SIZE)
    return template.format(
        chunk_index=chunk, file_index=within, episode_chunk=chunk, episode_index=number, video_key=video_key
    )


def read_info(path: Path) -> dict[str, Any]:
    """``info.json`` of the dataset at ``path``; ``DatasetError`` for one that is not there or of another version."""
    file = path / INFO_FILE
    if not file.is_file():
        raise DatasetError(f"{path} is not a LeRobot dataset: expected the file {file}")
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        version, _ = info["codebase_version"], (info["fps"], info["features"])
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{file} is corrupt: {error!r}") from error
    if version not in DATA_PATH:
        raise DatasetError(f"{file}: expected codebase_version {' or '.join(DATA_PATH)}, got {version!r}")
    return info


def read_features(info: Mapping[str, Any]) -> dict[str, Feature]:
    """The features that ``info.json`` lists, by key, as they stand there but for nested names, which are flattened."""
    return {
        key: Feature(key=key, dtype=entry["dtype"], shape=tuple(entry["shape"]), names=_flat(entry.get("names")))
        for key, entry in info["features"].items()
    }


def _flat(names: Any) -> list[str] | None:
    """``names`` is a list, a list under some name, or nothing."""
    if isinstance(names, Mapping):
        parts = [_flat(part) or [] for part in names.values() if isinstance(part, list | Mapping)]
        return [name for part in parts for name in part] or list(map(str, names))
    return None if names is None else [str(name) for name in names]

"""diffusion_policy's replay buffers: a zarr v2 group with ``data/<key>`` and ``meta/episode_ends``, or a zip of one."""

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Int, Shaped, UInt8
from zarr.storage import ZipStore

from policies.data.layout import DatasetError
from policies.data.sources.pictures import picture_size, rgb, white_of
from policies.data.sources.source import Feature, Proposal, Size, Told

ENDS = "meta/episode_ends"
STATE, ACTION, TIME = ("state", "agent_pos", "robot0_eef_pos"), ("action", "actions"), ("timestamp", "timestamps")
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OSError, RuntimeError, NotImplementedError)
"""What zarr and numcodecs raise at files that are damaged, that lack metadata, or whose codecs they do not know."""


class ReplayBuffer:
    """The episodes of one buffer, one after the other along every array. It says neither rate nor robot nor words."""

    format = "diffusion_policy"
    rate_hz = None
    told_by = frozenset()

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            group = open_group(path)
            data, ends = group["data"], group[ENDS]
            if not isinstance(data, zarr.Group) or not isinstance(ends, zarr.Array):
                raise TypeError(f"expected a group data and an array {ENDS}, got {data} and {ends}")
            self._arrays = dict(data.arrays())
            self._ends: Int[np.ndarray, " e"] = np.asarray(ends[:])
        except UNREADABLE as error:
            raise DatasetError(f"{path} is not diffusion_policy's, or damaged: {error!r}") from error
        if not len(self._ends) or (np.diff(self._ends, prepend=0) < 1).any():
            raise DatasetError(f"{path}: expected {ENDS} that rise from 1 on, got {self._ends[:5].tolist()} …")
        for key, array in self._arrays.items():
            if array.shape[:1] != (self._ends[-1],):
                wrong = f"data/{key} has {array.shape[0] if array.shape else 0} frames"
                raise DatasetError(f"{path}: {wrong}, but episode {len(self._ends) - 1} ends at frame {self._ends[-1]}")
        self.features = {
            key: Feature(key=key, shape=tuple(a.shape[1:]), size=picture_size(tuple(a.shape[1:]), np.dtype(a.dtype)))
            for key, a in self._arrays.items()
        }
        self.about: dict[str, Any] = {"episodes": len(self._ends), "frames": int(self._ends[-1])}
        self._whites: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def where(self, number: int) -> str:
        return f"episode {number} of {self.path}"

    def numbers(self, number: int, key: str) -> Shaped[np.ndarray, "t ..."]:
        end = int(self._ends[number])
        first = int(self._ends[number - 1]) if number else 0
        try:
            return np.asarray(self._arrays[key][first:end])
        except UNREADABLE as error:
            frame = self._damaged(key, first, end)
            raise DatasetError(
                f"{self.where(number)}, frame {frame - first}: cannot decode data/{key}: {error}"
            ) from error

    def pictures(self, number: int, key: str, size: Size) -> UInt8[np.ndarray, "t h w 3"]:
        """A camera's pictures in an episode; whether floats mean 0 … 1 or 0 … 255 its first episode decides."""
        if key not in self._whites:
            self._whites[key] = white_of(self.numbers(0, key))
        try:
            return rgb(self.numbers(number, key), size, self._whites[key])
        except ValueError as error:
            raise DatasetError(f"{self.where(number)}: data/{key}, {error}") from error

    def told(self, number: int) -> Told:
        return Told(success=True, seed=number)

    def proposal(self) -> Proposal:
        def found(candidates: tuple[str, ...]) -> tuple[str, ...]:
            return next(((key,) for key in candidates if key in self.features), ())

        state = found(STATE)
        if state == ("robot0_eef_pos",):
            state = tuple(key for key, f in self.features.items() if key.startswith("robot0_") and not f.size)
        time = found(TIME)
        return Proposal(state=state, action=found(ACTION), time=time[0] if time else None)

    def _damaged(self, key: str, first: int, end: int) -> int:
        """The first frame that cannot be decoded."""
        for frame in range(first, end):
            try:
                self._arrays[key][frame]
            except UNREADABLE:
                return frame
        return end


def open_group(path: Path) -> zarr.Group:
    """The group of a folder or a zip file, to be read."""
    return zarr.open_group(ZipStore(path, mode="r") if path.is_file() else path, mode="r")


def is_replay_buffer(path: Path) -> bool:
    """Whether there is a replay buffer at ``path``."""
    if path.is_dir():
        return any((path / ENDS / name).is_file() for name in (".zarray", "zarr.json"))
    return path.name.endswith(".zip")

"""HDF5 files, through h5py: what robomimic's and ManiSkill's formats share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Shaped, UInt8

from policies.data.layout import DatasetError
from policies.data.sources.pictures import picture_size, rgb, white_of
from policies.data.sources.source import Feature, Size


def open_file(path: Path) -> h5py.File:
    """The file, to be read; ``DatasetError`` for one that is damaged, or was never closed by its writer."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error


def group_in(parent: h5py.Group, name: str) -> h5py.Group:
    """The group of that name; ``DatasetError`` where there is none."""
    if not isinstance(group := parent.get(name), h5py.Group):
        raise DatasetError(f"{parent.file.filename} has no group {name} in {parent.name}")
    return group


def length_of(group: h5py.Group, name: str) -> int:
    """How many entries an array has; ``DatasetError`` where it is not there."""
    if not isinstance(array := group.get(name), h5py.Dataset) or not array.ndim:
        raise DatasetError(f"{group.file.filename} has no array {name} in {group.name}")
    return len(array)


def arrays_in(group: h5py.Group, prefix: str = "") -> Iterator[tuple[str, h5py.Dataset]]:
    """Every array below ``group`` with its path from there."""
    for name, item in group.items():
        if isinstance(item, h5py.Group):
            yield from arrays_in(item, f"{prefix}{name}/")
        elif isinstance(item, h5py.Dataset):
            yield prefix + name, item


def feature_of(key: str, array: h5py.Dataset) -> Feature | None:
    """What an array along an episode is; None for text and the like."""
    if array.dtype.kind not in "biuf" or array.ndim < 1:
        return None
    shape = tuple(array.shape[1:])
    return Feature(key=key, shape=shape, size=picture_size(shape, array.dtype))


class EpisodeGroups:
    """What a :class:`policies.data.sources.source.Source` is asked of episodes that each have a group in a file.

    ``names`` are the groups', in order; ``lengths`` say how many frames of each array count: a trailing observation
    that nothing was done at does not.
    """

    def __init__(self, path: Path, file: h5py.File, names: list[str], lengths: list[int]) -> None:
        self.path, self.names, self.lengths = path, names, lengths
        self._file = file
        self._whites: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self.names)

    def group(self, number: int) -> h5py.Group:
        return group_in(self._file, self.names[number])

    def where(self, number: int) -> str:
        return f"episode {number} ({self.names[number].rpartition('/')[2]}) of {self.path}"

    def numbers(self, number: int, key: str) -> Shaped[np.ndarray, "t ..."]:
        """An array of an episode; ``DatasetError`` where it is not there, damaged, or too short."""
        group, length = self.group(number), self.lengths[number]
        if not isinstance(array := group.get(key), h5py.Dataset):
            raise DatasetError(f"{self.where(number)} has no array {key}")
        if len(array) < length:
            raise DatasetError(f"{self.where(number)}, frame {len(array)}: {key} ends before it, of {length} frames")
        try:
            return np.asarray(array[:length])
        except (OSError, RuntimeError) as error:
            raise DatasetError(f"{self.where(number)}, frame {self._damaged(array)}: {key}: {error}") from error

    def pictures(self, number: int, key: str, size: Size) -> UInt8[np.ndarray, "t h w 3"]:
        """A camera's pictures in an episode; whether floats mean 0 … 1 or 0 … 255 its first episode decides."""
        if key not in self._whites:
            self._whites[key] = white_of(self.numbers(0, key))
        try:
            return rgb(self.numbers(number, key), size, self._whites[key])
        except ValueError as error:
            raise DatasetError(f"{self.where(number)}: {key}, {error}") from error

    def attribute(self, number: int, name: str, default: Any) -> Any:
        return self.group(number).attrs.get(name, default)

    @staticmethod
    def _damaged(array: h5py.Dataset) -> int:
        """The first frame that cannot be read."""
        for frame in range(len(array)):
            try:
                array[frame]
            except (OSError, RuntimeError):
                return frame
        return len(array)

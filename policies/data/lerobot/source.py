"""LeRobot's datasets behind the interface that every foreign format is read through."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from policies.data.lerobot.layout import COUNTERS
from policies.data.lerobot.layout import Feature as Column
from policies.data.lerobot.reading import LeRobotDataset, episode_facts
from policies.data.sources.source import Feature, Proposal, Size, Told

SUCCESS = "next.success"
TIME = "timestamp"
TOLERANCE_S = 1e-3
"""Times that are as near to the frame's number over the rate say nothing more than that."""


class LeRobotSource:
    """A LeRobotDataset, v3.0 or v2.1, of someone else's making."""

    format = "lerobot"
    told_by = frozenset({*COUNTERS, SUCCESS})

    def __init__(self, dataset: LeRobotDataset) -> None:
        self.dataset, self.path = dataset, dataset.path
        self.rate_hz = float(dataset.fps)
        kept = ("codebase_version", "robot_type", "total_episodes", "total_frames")
        self.about: Mapping[str, Any] = {key: dataset.info.get(key) for key in kept}
        self.features: Mapping[str, Feature] = {
            key: Feature(key=key, shape=f.shape, names=f.names, size=picture_size(f) if f.is_picture else None)
            for key, f in dataset.features.items()
            if f.dtype not in ("string", "language")
        }

    @classmethod
    def at(cls, path: Path) -> "LeRobotSource":
        return cls(LeRobotDataset(path))

    def __len__(self) -> int:
        return len(self.dataset.episodes)

    def numbers(self, number: int, key: str) -> Shaped[np.ndarray, "t ..."]:
        return self.dataset.numbers(number, key)

    def pictures(self, number: int, key: str, size: Size) -> UInt8[np.ndarray, "t h w 3"]:
        return self.dataset.pictures(number, key, size)

    def where(self, number: int) -> str:
        place = self.dataset.episodes[number]
        return f"episode {place.number} of {place.data}"

    def told(self, number: int) -> Told:
        """Of someone else's episodes the seed is the episode's number, and all are taken for successes but where
        ``next.success`` says otherwise at the end.
        """
        place, instruction = self.dataset.episodes[number], self.dataset.instruction(number)
        if facts := episode_facts(place):
            task, success, seed = facts
            return Told(instruction=instruction, task=task, success=success, seed=seed)
        told = self.dataset.numbers(number, SUCCESS) if SUCCESS in self.dataset.features else [True]
        return Told(instruction=instruction, success=bool(told[-1]), seed=place.number)

    def proposal(self) -> Proposal:
        own = self._says_more_than_the_rate()
        why = {"name": "the dataset's robot_type", "keys.time": "it is not the frame's number over the rate everywhere"}
        return Proposal(name=str(self.dataset.info.get("robot_type") or ""), time=TIME if own else None, why=why)

    def _says_more_than_the_rate(self) -> bool:
        if TIME not in self.dataset.features:
            return False
        for number in range(len(self)):
            time_s = self.dataset.numbers(number, TIME).reshape(-1)
            if (np.abs(time_s - np.arange(len(time_s)) / self.rate_hz) > TOLERANCE_S).any():
                return True
        return False


def picture_size(feature: Column) -> Size:
    """Height and width of a picture feature, whose axes may stand in any order."""
    names = [name.rstrip("s") for name in feature.names or ()]
    if {"height", "width"} <= set(names) and len(names) == len(feature.shape):
        return feature.shape[names.index("height")], feature.shape[names.index("width")]
    first = feature.shape[0] in (1, 3, 4)
    height, width = feature.shape[1:] if first else feature.shape[:2]
    return height, width

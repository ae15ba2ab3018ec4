"""robomimic's HDF5: ``data/demo_0``, … with ``actions``, ``rewards``, ``obs/<key>``, pictures uint8 height first."""

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from policies.data.layout import DatasetError
from policies.data.sources.hdf5 import EpisodeGroups, arrays_in, feature_of, group_in, length_of, open_file
from policies.data.sources.source import Feature, Proposal, Told

ACTIONS = "actions"
STATE = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
"""What robomimic's own image policies are told of a robot."""
PRIVILEGED = "obs/object"


class RobomimicFile(EpisodeGroups):
    """The demonstrations of one file, in the order of their numbers. It says no units, no bounds and no instruction."""

    format = "robomimic"
    rate_hz = None
    told_by = frozenset({"rewards", "dones"})

    def __init__(self, path: Path) -> None:
        file = open_file(path)
        data = group_in(file, "data")
        names = sorted(filter(re.compile(r"demo_\d+").fullmatch, map(str, data)), key=lambda name: int(name[5:]))
        lengths = [length_of(group_in(data, name), ACTIONS) for name in names]
        if not names:
            raise DatasetError(f"{path} has no demonstrations: expected groups data/demo_0, …, got {list(data)[:5]}")
        super().__init__(path, file, [f"data/{name}" for name in names], lengths)
        self._check_lengths()
        self.environment = self._environment()
        found = [feature_of(key, array) for key, array in arrays_in(self.group(0)) if not key.startswith("next_")]
        self.features: dict[str, Feature] = {feature.key: feature for feature in found if feature}
        self.about: dict[str, Any] = {"env_args": self.environment, "demonstrations": len(names)}
        self._rewarded = self._is_sparse()

    def told(self, number: int) -> Told:
        """A demonstration succeeds where its reward is ever 1; all do where rewards are not 0 or 1, or never given."""
        success = not self._rewarded or bool((self.numbers(number, "rewards") > 0).any())
        return Told(success=success, seed=int(self.names[number].rpartition("_")[2]))

    def proposal(self) -> Proposal:
        usual = tuple(f"obs/{key}" for key in STATE if f"obs/{key}" in self.features)
        vectors = (
            key for key, f in self.features.items() if key.startswith("obs/") and len(f.shape) == 1 and not f.size
        )
        name, kwargs = str(self.environment.get("env_name", "")), self.environment.get("env_kwargs", {})
        rate = kwargs.get("control_freq") if isinstance(kwargs, dict) else None
        robots = kwargs.get("robots", "") if isinstance(kwargs, dict) else ""
        robot = robots[0] if isinstance(robots, list) and robots else robots
        return Proposal(
            state=usual or tuple(key for key in vectors if key != PRIVILEGED),
            action=(ACTIONS,),
            name=str(robot),
            control_rate_hz=None if rate is None else float(rate),
            instruction=words_of(name) if name else None,
            why={
                "name": "env_args: robots" if robot else "guessed",
                "control_rate_hz": "env_args: control_freq",
                "instruction": f"guessed: env_args call the task {name!r}",
                "keys.state": "what robomimic's own policies see"
                if usual
                else "guessed: every vector but the object's",
            },
        )

    def _environment(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._file["data"].attrs.get("env_args", "{}")))
        except (ValueError, TypeError) as error:
            raise DatasetError(f"{self.path}: the attribute env_args of data is no JSON object: {error}") from error

    def _check_lengths(self) -> None:
        for number, length in enumerate(self.lengths):
            said = self.attribute(number, "num_samples", length)
            if said != length or not length:
                raise DatasetError(f"{self.where(number)} has {length} actions and says that it has {said}")

    def _is_sparse(self) -> bool:
        """Whether rewards say who succeeded: all are 0 or 1, and some are 1."""
        if "rewards" not in self.features:
            return False
        rewards = np.concatenate([self.numbers(number, "rewards") for number in range(len(self))])
        return bool(np.isin(rewards, (0, 1)).all() and rewards.any())


def words_of(name: str) -> str:
    """``PickPlaceCan`` → ``pick place can``; ``StackCube-v1`` → ``stack cube``."""
    stem = re.sub(r"-v\d+$", "", name)
    return " ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", stem)).lower()


def is_robomimic(file: h5py.File) -> bool:
    """Whether the file is laid out so."""
    return isinstance(file.get("data"), h5py.Group)

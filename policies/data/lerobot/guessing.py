"""A first draft of a robot's file from a LeRobot dataset that does not say enough: guesses, each marked as one."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped

from envs.specs import ACTION_KEY, STATE_KEY, CameraSpec, Dimension, EmbodimentSpec
from policies.data.layout import DatasetError
from policies.data.lerobot.layout import COUNTERS, Feature
from policies.data.lerobot.reading import LeRobotDataset
from policies.data.lerobot.robot_file import VECTORS, RobotFile, Scaling

CANDIDATES = {"state": (STATE_KEY, "state"), "action": (ACTION_KEY, "actions")}
"""What state and action are called, the likeliest first."""
IMAGE_PREFIXES = ("observation.images.", "observation.")
FOLLOWS = 0.9
"""An action that correlates with a state as much is taken for where that state is to go."""
HEAD = """Guessed from the data: look at every line that says so. A change per control step is relative. The gripper's
command must be 0 open … 1 closed: scale and offset turn stored numbers into what this file says of them
(scale · stored + offset); so do they degrees into radians. Pictures are brought to the size that is said here.
Then: vla dataset convert SOURCE TARGET --embodiment THIS_FILE"""


def describe(dataset: LeRobotDataset, done: Callable[[int], None] = lambda _: None) -> str:
    """A robot's file for this dataset, to be looked through; ``done`` is told how many episodes have been read.

    ``DatasetError`` where no feature can be the state, or the action.
    """
    keys = {vector: _find(dataset.features, vector) for vector in VECTORS}
    parts: dict[str, list[np.ndarray]] = {vector: [] for vector in VECTORS}
    for number in range(len(dataset.episodes)):
        for vector, key in keys.items():
            parts[vector].append(_two_axes(dataset.numbers(number, key)))
        done(number + 1)
    values = {vector: np.concatenate(chunks).astype(np.float64) for vector, chunks in parts.items()}
    names = {vector: _names(dataset.features[key], values[vector].shape[1]) for vector, key in keys.items()}
    remarks = {"name": "the dataset's robot_type", "control_rate_hz": "the dataset's fps"}
    dimensions = {}
    for vector in VECTORS:
        low, high = _bounds(values[vector])
        relative = relative_actions(values, names) if vector == "action" else [False] * len(low)
        dimensions[vector] = tuple(
            Dimension(name=name, unit="unknown", low=float(a), high=float(b), relative=r)
            for name, a, b, r in zip(names[vector], low, high, relative, strict=True)
        )
        remarks |= _remarks(vector, names[vector])
    cameras, image_keys = _cameras(dataset.features)
    remarks |= {f"cameras.{number}.name": "after its key" for number in range(len(cameras))}
    robot = EmbodimentSpec(
        name=str(dataset.info.get("robot_type") or "robot"),
        control_rate_hz=float(dataset.fps),
        cameras=cameras,
        **dimensions,
    )
    scaling = {vector: (Scaling(),) * len(dimensions[vector]) for vector in VECTORS}
    return RobotFile(embodiment=robot, keys=keys, image_keys=image_keys, scaling=scaling).to_toml(remarks, HEAD)


def picture_size(feature: Feature) -> tuple[int, int]:
    """Height and width of a picture feature, whose axes may stand in any order."""
    names = [name.rstrip("s") for name in feature.names or ()]
    if {"height", "width"} <= set(names) and len(names) == len(feature.shape):
        return feature.shape[names.index("height")], feature.shape[names.index("width")]
    first = feature.shape[0] in (1, 3, 4)
    height, width = feature.shape[1:] if first else feature.shape[:2]
    return height, width


def _find(features: Mapping[str, Feature], vector: str) -> str:
    for key in CANDIDATES[vector]:
        if key in features:
            return key
    vectors = [key for key, f in features.items() if len(f.shape) == 1 and not f.is_picture and key not in COUNTERS]
    raise DatasetError(f"no feature is called {' or '.join(CANDIDATES[vector])}; the vectors there are: {vectors}")


def _cameras(features: Mapping[str, Feature]) -> tuple[tuple[CameraSpec, ...], dict[str, str]]:
    specs, keys = [], {}
    for key, feature in features.items():
        if not feature.is_picture:
            continue
        name = key
        for prefix in IMAGE_PREFIXES:
            name = name.removeprefix(prefix)
        height, width = picture_size(feature)
        specs.append(CameraSpec(name=name, height_px=height, width_px=width))
        keys[name] = key
    return tuple(specs), keys


def _names(feature: Feature, count: int) -> list[str]:
    names = list(feature.names or ())
    return names if len(names) == count else [f"x{index}" for index in range(count)]


def _two_axes(values: Shaped[np.ndarray, "t ..."]) -> Shaped[np.ndarray, "t d"]:
    return values.reshape(len(values), -1)


def _bounds(values: Shaped[np.ndarray, "t d"]) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value; a number that never changes gets half a unit to either side."""
    low, high = values.min(0), values.max(0)
    still = low == high
    return np.where(still, low - 0.5, low), np.where(still, high + 0.5, high)


def relative_actions(values: Mapping[str, np.ndarray], names: Mapping[str, Sequence[str]]) -> list[bool]:
    """Whether each action is a change: it follows no state of its name (or place), and its values lie about 0."""
    state, action = values["state"], values["action"]
    found = []
    for number, name in enumerate(names["action"]):
        column = action[:, number]
        own = names["state"].index(name) if name in names["state"] else number
        follows = own < state.shape[1] and _correlation(column, state[:, own]) > FOLLOWS
        about_0 = column.min() < 0 < column.max() and abs(column.mean()) < 0.1 * np.ptp(column)
        found.append(bool(about_0 and not follows))
    return found


def _correlation(a: Float[np.ndarray, " t"], b: Float[np.ndarray, " t"]) -> float:
    """Pearson's, 0 where one of them never changes."""
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else 0.0


def _remarks(vector: str, names: Sequence[str]) -> dict[str, str]:
    remarks = {}
    for number, name in enumerate(names):
        place = f"{vector}.{number}"
        gripper = ": a gripper's command is 0 open … 1 closed" if "grip" in name.lower() and vector == "action" else ""
        remarks |= {
            f"{place}.unit": f"guessed{gripper}",
            f"{place}.low": "guessed: the smallest value in the data",
            f"{place}.high": "guessed: the largest value in the data",
            f"{place}.frame": "guessed",
        }
        if vector == "action":
            remarks[f"{place}.relative"] = "guessed from how it goes with the state"
    return remarks

"""A first draft of a robot's file from data that do not say enough: guesses, each marked as one, with its reason."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped

from envs.specs import ACTION_KEY, STATE_KEY, CameraSpec, Dimension, EmbodimentSpec
from policies.data.layout import DatasetError
from policies.data.sources.gripper import Grip, find_grip
from policies.data.sources.robot_file import VECTORS, RobotFile, Scaling
from policies.data.sources.source import Feature, Proposal, Source

CANDIDATES = {"state": (STATE_KEY, "state"), "action": (ACTION_KEY, "actions")}
"""What state and action are called, the likeliest first, where the format makes nothing likelier."""
IMAGE_PREFIXES = ("observation.images.", "observation.", "obs/sensor_data/", "obs/")
IMAGE_SUFFIXES = ("/rgb", "_image")
FOLLOWS = 0.9
"""An action that correlates with a state as much is taken for where that state is to go."""
DEFAULT_RATE_HZ = 10.0
DEFAULT_INSTRUCTION = "do the task"
UNITS = (
    ("pos", 3, "m"),
    ("pose", 7, "m, then a quaternion"),
    ("quat", 4, "1"),
    ("qpos", 0, "rad or m"),
    ("qvel", 0, "rad/s"),
)
"""The end of a vector's name, how many numbers it must have (0: any), and the unit that it is then guessed to have."""
HEAD = """Guessed from the data: look at every line that says so. A change per control step is relative. The gripper's
command must be 0 open … 1 closed: scale and offset turn stored numbers into what this file says of them
(scale · stored + offset); so do they degrees into radians. Pictures are brought to the size that is said here.
Then: vla dataset convert SOURCE TARGET --embodiment THIS_FILE"""


def describe(source: Source, done: Callable[[int], None] = lambda _: None) -> str:
    """A robot's file for this dataset, to be looked through; ``done`` is told how many episodes have been read.

    ``DatasetError`` where no feature can be the state, or the action.
    """
    proposal = source.proposal()
    keys = {vector: find_keys(source.features, vector, getattr(proposal, vector)) for vector in VECTORS}
    episodes: dict[str, list[np.ndarray]] = {vector: [] for vector in VECTORS}
    for number in range(len(source)):
        for vector in VECTORS:
            episodes[vector].append(joined(source, number, keys[vector]).astype(np.float64))
        done(number + 1)
    names = {vector: _names([source.features[key] for key in keys[vector]]) for vector in VECTORS}
    values = {vector: np.concatenate(episodes[vector]) for vector in VECTORS}
    grip = find_grip(episodes["state"], episodes["action"], names)
    remarks = {f"keys.{vector}": "guessed from the name" for vector in VECTORS} | _general(source, proposal)
    dimensions, scaling = {}, {}
    for vector in VECTORS:
        relative = relative_actions(values, names) if vector == "action" else [False] * len(names[vector])
        units = _units([source.features[key] for key in keys[vector]])
        made = [
            _dimension(name, unit, column, r)
            for name, unit, column, r in zip(names[vector], units, values[vector].T, relative, strict=True)
        ]
        remarks |= _remarks(vector, names[vector])
        scaling[vector] = [Scaling()] * len(made)
        if grip and vector == "action":
            made[grip.action], scaling[vector][grip.action] = grip.dimension(), grip.scaling()
            remarks |= _grip_remarks(grip)
        dimensions[vector] = tuple(made)
    cameras, image_keys = _cameras(source.features)
    remarks |= {f"cameras.{number}.name": "after its key" for number in range(len(cameras))}
    robot = EmbodimentSpec(
        name=proposal.name or "robot",
        control_rate_hz=source.rate_hz or proposal.control_rate_hz or DEFAULT_RATE_HZ,
        cameras=cameras,
        **dimensions,
    )
    tells = source.told(0).instruction is not None
    return RobotFile(
        embodiment=robot,
        keys=keys,
        image_keys=image_keys,
        scaling=scaling,
        time=proposal.time,
        instruction=None if tells else proposal.instruction or DEFAULT_INSTRUCTION,
    ).to_toml(remarks, HEAD)


def joined(source: Source, number: int, keys: Sequence[str]) -> Shaped[np.ndarray, "t d"]:
    """Features of an episode side by side; ``DatasetError`` where they have not as many frames as one another."""
    parts = [source.numbers(number, key) for key in keys]
    if len({len(part) for part in parts}) != 1:
        counts = {key: len(part) for key, part in zip(keys, parts, strict=True)}
        raise DatasetError(f"{source.where(number)}: expected features of one length, got {counts}")
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def find_keys(features: Mapping[str, Feature], vector: str, proposed: Sequence[str]) -> tuple[str, ...]:
    """The features that make up the state, or the action; ``DatasetError`` lists the vectors there are."""
    if proposed and all(key in features for key in proposed):
        return tuple(proposed)
    for key in CANDIDATES[vector]:
        if key in features:
            return (key,)
    vectors = [key for key, f in features.items() if len(f.shape) == 1 and f.size is None]
    raise DatasetError(f"no feature is called {' or '.join(CANDIDATES[vector])}; the vectors there are: {vectors}")


def _cameras(features: Mapping[str, Feature]) -> tuple[tuple[CameraSpec, ...], dict[str, str]]:
    specs, keys = [], {}
    for key, feature in features.items():
        if feature.size is None:
            continue
        name = key
        for prefix in IMAGE_PREFIXES:
            name = name.removeprefix(prefix)
        for suffix in IMAGE_SUFFIXES:
            name = name.removesuffix(suffix)
        specs.append(CameraSpec(name=name, height_px=feature.size[0], width_px=feature.size[1]))
        keys[name] = key
    return tuple(specs), keys


def _names(features: Sequence[Feature]) -> list[str]:
    """What the data call the numbers; else the feature's name with their places, or x0, x1, … of a single one."""
    names = []
    for feature in features:
        count = int(np.prod(feature.shape, dtype=np.int64))
        own, leaf = list(feature.names or ()), feature.key.rpartition("/")[2]
        prefix = "x" if len(features) == 1 else f"{leaf}."
        names += own if len(own) == count else [f"{prefix}{index}" for index in range(count)]
    return names


def _units(features: Sequence[Feature]) -> list[str]:
    units = []
    for feature in features:
        count = int(np.prod(feature.shape, dtype=np.int64))
        fitting = [unit for end, size, unit in UNITS if feature.key.endswith(end) and size in (0, count)]
        units += [fitting[0] if fitting else "unknown"] * count
    return units


def _dimension(name: str, unit: str, values: Float[np.ndarray, " t"], relative: bool) -> Dimension:
    """Between the smallest and the largest value; a number that never changes gets half a unit to either side."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    return Dimension(name=name, unit=unit, low=low, high=high, relative=relative)


def relative_actions(values: Mapping[str, np.ndarray], names: Mapping[str, Sequence[str]]) -> list[bool]:
    """Whether each action is a change: it follows no state of its name (or place), and its values lie about 0."""
    state, action = values["state"], values["action"]
    found = []
    for number, name in enumerate(names["action"]):
        column = action[:, number]
        own = names["state"].index(name) if name in names["state"] else number
        follows = own < state.shape[1] and correlation(column, state[:, own]) > FOLLOWS
        about_0 = column.min() < 0 < column.max() and abs(column.mean()) < 0.1 * np.ptp(column)
        found.append(bool(about_0 and not follows))
    return found


def correlation(a: Float[np.ndarray, " t"], b: Float[np.ndarray, " t"]) -> float:
    """Pearson's, 0 where one of them never changes."""
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else 0.0


def _general(source: Source, proposal: Proposal) -> dict[str, str]:
    """Why the robot, its rate and its instruction are what they are."""
    remarks = {
        "name": "guessed",
        "control_rate_hz": f"guessed: {source.format} does not say it",
        "instruction": f"guessed: {source.format} has none; of all episodes",
        "keys.time": "when a frame was taken, in seconds",
    }
    said = {"control_rate_hz": "the dataset's fps"} if source.rate_hz else {}
    return remarks | dict(proposal.why) | said


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


def _grip_remarks(grip: Grip) -> dict[str, str]:
    place = f"action.{grip.action}"
    return {
        f"{place}.name": f"guessed: its stored values gather at {grip.low:g} and {grip.high:g}",
        f"{place}.unit": f"guessed: {grip.reason}",
        f"{place}.low": "after scale and offset",
        f"{place}.high": "after scale and offset",
        f"{place}.scale": "guessed with the unit",
        f"{place}.offset": "guessed with the unit",
    }

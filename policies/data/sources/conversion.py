"""Someone else's episodes as a store of ours, whatever their format; the store is there whole or not at all."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from envs.specs import EmbodimentSpec
from policies.data.episode import Episode
from policies.data.layout import DatasetError, StoreHeader
from policies.data.sources.guessing import joined
from policies.data.sources.robot_file import VECTORS, RobotFile
from policies.data.sources.source import Source
from policies.data.writer import DemonstrationWriter
from vla.durable import new_folder

Done = Callable[[int], None]
"""Told how many episodes have been converted."""
LONGEST_TASK = 80
"""Characters of a task's name, which films are called after."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a reader of someone else's data should know: episodes and frames, features that were not taken, and actions
    beyond the bounds that the robot's file gives them (how many frames, and the first).
    """

    episodes: int = 0
    frames: int = 0
    not_taken: tuple[str, ...] = ()
    frames_beyond: int = 0
    first_beyond: str = ""


def take_in(source: Source, target: Path, robot: RobotFile, done: Done = lambda _: None) -> Report:
    """Write the episodes of ``source`` as a store at ``target``, which must not exist.

    ``robot`` says what the data do not. ``ValueError`` where it does not fit their features, before anything is
    converted; ``DatasetError`` names the episode, the frame and the file of what cannot be read.
    """
    header = header_for(source, robot)
    watch, frames = _Watch(header.embodiment), 0
    with new_folder(target) as folder, DemonstrationWriter.create_like(folder, header) as writer:
        for number in range(len(source)):
            episode = read_episode(source, number, robot)
            watch.look(number, episode.actions)
            try:
                writer.append(episode)
            except ValueError as error:
                raise DatasetError(f"{source.where(number)}: {error}") from error
            frames += len(episode)
            done(number + 1)
    return watch.report(len(source), frames, _not_taken(source, robot))


def header_for(source: Source, robot: RobotFile) -> StoreHeader:
    """The header of the store; ``ValueError`` where the robot's file does not fit the data."""
    for vector, count in zip(VECTORS, (robot.embodiment.state_dim, robot.embodiment.action_dim), strict=True):
        found = {key: source.features.get(key) for key in robot.keys[vector]}
        if any(f is None or f.size for f in found.values()) or _numbers_in(source, robot.keys[vector]) != count:
            there = {key: feature.shape for key, feature in source.features.items() if feature.size is None}
            asked = " and ".join(map(repr, robot.keys[vector]))
            raise ValueError(f"expected the {vector} {asked} of {count} numbers, the dataset has {there}")
    for name, key in robot.image_keys.items():
        if key not in source.features or not source.features[key].size:
            pictures = [key for key, feature in source.features.items() if feature.size]
            raise ValueError(f"expected pictures {key!r} for the camera {name}, the dataset has {pictures}")
    if robot.time is not None and (robot.time not in source.features or _numbers_in(source, (robot.time,)) != 1):
        raise ValueError(f"expected one number per frame for the time, {robot.time!r}; the dataset has none of it")
    if source.rate_hz is not None and robot.embodiment.control_rate_hz != source.rate_hz:
        raise ValueError(f"expected {source.rate_hz:g} frames per second, got {robot.embodiment.control_rate_hz}")
    tells = source.told(0).instruction is not None
    if tells == (robot.instruction is not None):
        what = "their own: take it out of the file" if tells else 'none: say one in the file, instruction = "…"'
        raise ValueError(f"the episodes have instructions of {what}" if tells else f"the episodes have {what}")
    read = {"keys": {v: list(keys) for v, keys in robot.keys.items()}, "image_keys": dict(robot.image_keys)}
    scaling = {vector: [[s.scale, s.offset] for s in robot.scaling[vector]] for vector in VECTORS}
    settings = {source.format: dict(source.about) | read | {"scale_and_offset": scaling}}
    return StoreHeader(
        embodiment=robot.embodiment, settings=settings, geometry=False, phase=False, times=robot.time is not None
    )


def read_episode(source: Source, number: int, robot: RobotFile) -> Episode:
    """One episode in the robot's units; its task is named after the instruction where the data do not name it."""
    vectors = {vector: robot.scaled(vector, joined(source, number, robot.keys[vector])) for vector in VECTORS}
    images = {
        camera.name: source.pictures(number, robot.image_keys[camera.name], (camera.height_px, camera.width_px))
        for camera in robot.embodiment.cameras
    }
    told = source.told(number)
    instruction = told.instruction or robot.instruction or ""
    time = None if robot.time is None else source.numbers(number, robot.time).reshape(-1).astype(np.float64)
    try:
        task = told.task or task_name(instruction)
    except ValueError as error:
        raise DatasetError(f"{source.where(number)}: {error}") from error
    return Episode(
        images=images,
        state=vectors["state"],
        actions=vectors["action"],
        times_s=time,
        instruction=instruction,
        task=task,
        success=told.success,
        seed=told.seed,
    )


def task_name(instruction: str) -> str:
    """``Pick up the cube.`` → ``pick-up-the-cube``; ``ValueError`` for one without a letter."""
    name = re.sub(r"\W+", "-", instruction.lower()).strip("-")
    if not name:
        raise ValueError(f"expected an instruction with at least one letter, got {instruction!r}")
    return name[:LONGEST_TASK]


def _numbers_in(source: Source, keys: tuple[str, ...]) -> int:
    return sum(int(np.prod(source.features[key].shape, dtype=np.int64)) for key in keys)


def _not_taken(source: Source, robot: RobotFile) -> tuple[str, ...]:
    taken = {key for keys in robot.keys.values() for key in keys}
    taken |= {*robot.image_keys.values(), *source.told_by, robot.time}
    return tuple(key for key in source.features if key not in taken)


class _Watch:
    """Counts the frames whose action lies beyond the robot's bounds: a unit or a sign that is wrong shows there."""

    def __init__(self, embodiment: EmbodimentSpec) -> None:
        self._names = [dim.name for dim in embodiment.action]
        self._low = np.array(embodiment.action_low, np.float32)
        self._high = np.array(embodiment.action_high, np.float32)
        self._frames, self._first = 0, ""

    def look(self, episode: int, actions: Float[np.ndarray, "t a"]) -> None:
        beyond = (actions < self._low) | (actions > self._high)
        if beyond.any() and not self._first:
            frame, number = (int(index) for index in np.argwhere(beyond)[0])
            span = f"{self._low[number]:g} … {self._high[number]:g}"
            value = actions[frame, number]
            self._first = f"episode {episode}, frame {frame}: {self._names[number]} is {value:g}, bounds {span}"
        self._frames += int(beyond.any(1).sum())

    def report(self, episodes: int, frames: int, not_taken: tuple[str, ...]) -> Report:
        return Report(
            episodes=episodes,
            frames=frames,
            not_taken=not_taken,
            frames_beyond=self._frames,
            first_beyond=self._first,
        )

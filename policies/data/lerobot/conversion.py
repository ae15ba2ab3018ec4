"""Whole datasets from one format to the other; the new one is there whole or not at all."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from envs.specs import EmbodimentSpec, image_key
from policies.data.dataset import DemonstrationDataset
from policies.data.episode import Episode
from policies.data.layout import DatasetError, StoreHeader
from policies.data.left_out import LeftOut
from policies.data.lerobot.layout import COUNTERS, OURS_FILE, Pictures, Version
from policies.data.lerobot.reading import LeRobotDataset, episode_facts
from policies.data.lerobot.robot_file import VECTORS, RobotFile
from policies.data.lerobot.tables import read_file
from policies.data.lerobot.writing import LeRobotWriter
from policies.data.split import left_out_beside
from policies.data.writer import DemonstrationWriter
from vla.durable import new_folder

Done = Callable[[int], None]
"""Told how many episodes have been converted."""
LONGEST_TASK = 80
"""Characters of a task's name, which films are called after."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a reader of someone else's data should know: features that were not taken, and actions beyond the bounds
    that the robot's file gives them (how many frames, and the first).
    """

    not_taken: tuple[str, ...] = ()
    frames_beyond: int = 0
    first_beyond: str = ""


def to_lerobot(
    dataset: DemonstrationDataset, target: Path, version: Version, pictures: Pictures, done: Done = lambda _: None
) -> None:
    """Write the store's episodes as a LeRobotDataset at ``target``, which must not exist.

    With ``png`` nothing is lost: :func:`to_store` gives the same store again. With ``video`` only pictures lose.
    """
    if not len(dataset):
        raise ValueError(f"{dataset.path} has no episodes to convert")
    ours = dataset.header.to_attributes() | {"left_out": left_out_beside(dataset, dataset.records).to_dict()}
    with new_folder(target) as folder:
        writer = LeRobotWriter(folder, dataset.header, version, pictures, ours)
        for number in range(len(dataset)):
            writer.append(dataset.episode(number))
            done(number + 1)
        writer.finish()


def to_store(source: LeRobotDataset, target: Path, robot: RobotFile | None, done: Done = lambda _: None) -> Report:
    """Write the episodes of a LeRobotDataset as a store at ``target``, which must not exist.

    ``robot`` says what someone else's data do not; None for a dataset that :func:`to_lerobot` made.
    """
    ours = None if robot else read_ours(source)
    header = _header_for(source, robot) if robot else _header_of(source, ours or {})
    left_out = None if ours is None else _left_out(source, ours)
    watch = _Watch(header.embodiment) if robot else None
    with (
        new_folder(target) as folder,
        DemonstrationWriter.create(
            folder,
            header.embodiment,
            settings=header.settings,
            geometry=header.geometry,
            phase=header.phase,
            actor=header.actor,
        ) as writer,
    ):
        for number, place in enumerate(source.episodes):
            episode = _others_episode(source, number, robot) if robot else _our_episode(source, number, header)
            if watch:
                watch.look(place.number, episode.actions)
            try:
                writer.append(episode)
            except ValueError as error:
                raise DatasetError(f"episode {place.number} of {place.data}: {error}") from error
            done(number + 1)
        if left_out is not None:
            left_out.write(folder)
    return watch.report(_not_taken(source, robot)) if watch and robot else Report()


def read_ours(source: LeRobotDataset) -> dict[str, Any]:
    """What :func:`to_lerobot` left in the dataset; ``DatasetError`` says what to do where there is nothing."""
    file = source.path / OURS_FILE
    if not file.is_file():
        raise DatasetError(
            f"{source.path} does not say its robot's bounds, units and signs: have them guessed with vla dataset "
            f"describe {source.path} --out ROBOT.toml, look the guesses through, and give --embodiment ROBOT.toml"
        )
    try:
        return json.loads(read_file(file))
    except ValueError as error:
        raise DatasetError(f"{file} is corrupt: {error}") from error


def _header_of(source: LeRobotDataset, ours: dict[str, Any]) -> StoreHeader:
    """The header of the store that the dataset was made of; ``DatasetError`` where its features are others by now."""
    file = source.path / OURS_FILE
    header = StoreHeader.from_attributes(ours, file)
    for spec in header.fields:
        feature = source.features.get(spec.key)
        if feature is None or (not feature.is_picture and feature.shape != (spec.shape or (1,))):
            got = "nothing" if feature is None else f"{feature.dtype} {feature.shape}"
            raise DatasetError(
                f"{file} tells of {spec.key}: {spec.dtype} {spec.shape}, the dataset has {got}: it was changed since; "
                "give --embodiment to read it as any other"
            )
    return header


def _left_out(source: LeRobotDataset, ours: dict[str, Any]) -> LeftOut:
    """The seeds that the store left out; ``DatasetError`` where the dataset does not say them as they were written."""
    try:
        return LeftOut.from_dict(ours["left_out"])
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise DatasetError(f"{source.path / OURS_FILE} is corrupt: {error!r}") from error


def _header_for(source: LeRobotDataset, robot: RobotFile) -> StoreHeader:
    """The header for someone else's data; ``ValueError`` where the robot's file does not fit their features."""
    named = dict(zip(VECTORS, (robot.embodiment.state_dim, robot.embodiment.action_dim), strict=True))
    for vector, count in named.items():
        feature = source.features.get(robot.keys[vector])
        if feature is None or feature.is_picture or feature.shape != (count,):
            got = f"features {list(source.features)}" if feature is None else f"{feature.dtype} {feature.shape}"
            raise ValueError(f"expected the {vector} {robot.keys[vector]!r} of {count} numbers, the dataset has {got}")
    for name, key in robot.image_keys.items():
        if key not in source.features or not source.features[key].is_picture:
            pictures = [key for key, feature in source.features.items() if feature.is_picture]
            raise ValueError(f"expected pictures {key!r} for the camera {name}, the dataset has {pictures}")
    if robot.embodiment.control_rate_hz != source.fps:
        raise ValueError(f"expected {source.fps} frames per second, got {robot.embodiment.control_rate_hz}")
    about = {key: source.info.get(key) for key in ("codebase_version", "robot_type", "total_episodes", "total_frames")}
    read = {"keys": dict(robot.keys), "image_keys": dict(robot.image_keys)}
    scaling = {vector: [[s.scale, s.offset] for s in robot.scaling[vector]] for vector in VECTORS}
    settings = {"lerobot": about | read | {"scale_and_offset": scaling}}
    return StoreHeader(embodiment=robot.embodiment, settings=settings, geometry=False, phase=False)


def _our_episode(source: LeRobotDataset, number: int, header: StoreHeader) -> Episode:
    cameras = {image_key(camera.name): (camera.height_px, camera.width_px) for camera in header.embodiment.cameras}
    arrays = {}
    for spec in header.fields:
        if spec.key in cameras:
            arrays[spec.key] = source.pictures(number, spec.key, cameras[spec.key])
        else:
            arrays[spec.key] = source.numbers(number, spec.key).reshape(-1, *spec.shape).astype(spec.dtype)
    return Episode.from_fields(arrays, header.embodiment.camera_names, **_about(source, number))


def _others_episode(source: LeRobotDataset, number: int, robot: RobotFile) -> Episode:
    vectors = {}
    for vector in VECTORS:
        stored = source.numbers(number, robot.keys[vector])
        vectors[vector] = robot.scaled(vector, stored.reshape(len(stored), -1))
    images = {
        camera.name: source.pictures(number, robot.image_keys[camera.name], (camera.height_px, camera.width_px))
        for camera in robot.embodiment.cameras
    }
    return Episode(images=images, state=vectors["state"], actions=vectors["action"], **_about(source, number))


def _about(source: LeRobotDataset, number: int) -> dict[str, Any]:
    """Instruction, task, success and seed; of someone else's episodes the task is named after the instruction, the seed
    is the episode's number, and all are taken for successes but where ``next.success`` says otherwise at the end.
    """
    place, instruction = source.episodes[number], source.instruction(number)
    if facts := episode_facts(place):
        task, success, seed = facts
    else:
        told = source.numbers(number, "next.success") if "next.success" in source.features else [True]
        task, success, seed = task_name(instruction), bool(told[-1]), place.number
    return {"instruction": instruction, "task": task, "success": success, "seed": seed}


def task_name(instruction: str) -> str:
    """``Pick up the cube.`` → ``pick-up-the-cube``; ``ValueError`` for one without a letter."""
    name = re.sub(r"\W+", "-", instruction.lower()).strip("-")
    if not name:
        raise ValueError(f"expected an instruction with at least one letter, got {instruction!r}")
    return name[:LONGEST_TASK]


def _not_taken(source: LeRobotDataset, robot: RobotFile) -> tuple[str, ...]:
    taken = {*robot.keys.values(), *robot.image_keys.values(), *COUNTERS, "next.success"}
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

    def report(self, not_taken: tuple[str, ...]) -> Report:
        return Report(not_taken=not_taken, frames_beyond=self._frames, first_beyond=self._first)

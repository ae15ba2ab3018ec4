"""Our datasets as LeRobot's, and those back again; the new one is there whole or not at all."""

import json
from pathlib import Path
from typing import Any

from envs.specs import image_key
from policies.data.dataset import DemonstrationDataset
from policies.data.episode import Episode
from policies.data.layout import DatasetError, StoreHeader
from policies.data.left_out import LeftOut
from policies.data.lerobot.layout import OURS_FILE, Pictures, Version
from policies.data.lerobot.reading import LeRobotDataset
from policies.data.lerobot.source import LeRobotSource
from policies.data.lerobot.tables import read_file
from policies.data.lerobot.writing import LeRobotWriter
from policies.data.sources.conversion import Done, Report, take_in, task_name
from policies.data.sources.robot_file import RobotFile
from policies.data.split import left_out_beside
from policies.data.writer import DemonstrationWriter
from vla.durable import new_folder


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
    if robot is not None:
        return take_in(LeRobotSource(source), target, robot, done)
    ours = read_ours(source)
    header, left_out = _header_of(source, ours), _left_out(source, ours)
    with new_folder(target) as folder, DemonstrationWriter.create_like(folder, header) as writer:
        for number, place in enumerate(source.episodes):
            episode = _our_episode(source, number, header)
            try:
                writer.append(episode)
            except ValueError as error:
                raise DatasetError(f"episode {place.number} of {place.data}: {error}") from error
            done(number + 1)
        left_out.write(folder)
    return Report(episodes=len(source.episodes), frames=sum(place.length for place in source.episodes))


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


def _our_episode(source: LeRobotDataset, number: int, header: StoreHeader) -> Episode:
    cameras = {image_key(camera.name): (camera.height_px, camera.width_px) for camera in header.embodiment.cameras}
    arrays = {}
    for spec in header.fields:
        if spec.key in cameras:
            arrays[spec.key] = source.pictures(number, spec.key, cameras[spec.key])
        else:
            arrays[spec.key] = source.numbers(number, spec.key).reshape(-1, *spec.shape).astype(spec.dtype)
    return Episode.from_fields(arrays, header.embodiment.camera_names, **_about(source, number))


def _about(source: LeRobotDataset, number: int) -> dict[str, Any]:
    """Instruction, task, success and seed."""
    told = LeRobotSource(source).told(number)
    task = told.task or task_name(told.instruction or "")
    return {"instruction": told.instruction, "task": task, "success": told.success, "seed": told.seed}

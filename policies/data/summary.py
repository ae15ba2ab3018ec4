"""A store in numbers: what every dimension ranges over, how long episodes are, how bright what each camera sees."""

from collections.abc import Callable
from typing import Any

import numpy as np

from envs.specs import Dimension, image_key
from policies.data.dataset import LOAD_FRAMES, DemonstrationDataset
from policies.data.layout import EpisodeRecord
from policies.data.statistics import FieldStatistics

COLUMNS = ("min", "q01", "mean", "q99", "max", "std")
WHITE = 255.0


def summarize(dataset: DemonstrationDataset, done: Callable[[int], None] = lambda _: None) -> dict[str, Any]:
    """JSON-ready; every picture is decoded once, and ``done`` is told how many frames have been.

    ``DatasetError`` for a store without episodes, or what is damaged.
    """
    statistics, robot = dataset.statistics(), dataset.embodiment
    cameras = {}
    for place, camera in enumerate(robot.camera_names):
        cameras[camera] = _brightness(dataset, camera, lambda n, at=place: done(at * dataset.num_frames + n))
    return {
        "path": str(dataset.path),
        "episodes": len(dataset),
        "frames": dataset.num_frames,
        "tasks": {task: _lengths([r for r in dataset.records if r.task == task]) for task in _tasks(dataset)},
        "instructions": len({record.instruction for record in dataset.records}),
        "state": _dimensions(robot.state, statistics.state),
        "action": _dimensions(robot.action, statistics.action),
        "cameras": cameras,
    }


def _tasks(dataset: DemonstrationDataset) -> list[str]:
    return sorted({record.task for record in dataset.records})


def _lengths(records: list[EpisodeRecord]) -> dict[str, Any]:
    """Episodes, successes, instructions, and the frames of the shortest, the middle and the longest one."""
    lengths = np.array([record.length for record in records])
    return {
        "episodes": len(records),
        "successes": sum(record.success for record in records),
        "instructions": len({record.instruction for record in records}),
        "shortest": int(lengths.min()),
        "median": float(np.median(lengths)),
        "longest": int(lengths.max()),
    }


def _dimensions(dimensions: tuple[Dimension, ...], found: FieldStatistics) -> dict[str, dict[str, Any]]:
    return {
        dim.name: {"unit": dim.unit, "low": dim.low, "high": dim.high}
        | {column: getattr(found, column)[index] for column in COLUMNS}
        for index, dim in enumerate(dimensions)
    }


def _brightness(dataset: DemonstrationDataset, camera: str, done: Callable[[int], None]) -> dict[str, Any]:
    """The brightness of a camera's frames, each the mean over its pixels, 0 black … 1 white, and their contrast, the
    mean standard deviation within a frame.
    """
    bright, contrast = [], []
    for first in range(0, dataset.num_frames, LOAD_FRAMES):
        end = min(first + LOAD_FRAMES, dataset.num_frames)
        block = dataset.block(image_key(camera), first, end)
        bright.append(block.mean((1, 2, 3)) / WHITE)
        contrast.append(block.mean(3).std((1, 2)) / WHITE)
        done(end)
    frames = np.concatenate(bright)
    spec = dataset.embodiment.camera(camera)
    return {
        "size_px": [spec.height_px, spec.width_px],
        "brightness": {"min": float(frames.min()), "mean": float(frames.mean()), "max": float(frames.max())},
        "contrast": float(np.concatenate(contrast).mean()),
    }

"""GR00T's ``modality.json``: which numbers of state and action belong together, and what else is called how."""

from collections.abc import Sequence
from itertools import groupby, takewhile
from typing import Any

from envs.specs import Dimension, EmbodimentSpec, image_key

SHORTEST_NAME = 3
"""A shared beginning of names that is shorter says nothing."""


def modality(embodiment: EmbodimentSpec) -> dict[str, Any]:
    """Neighbouring dimensions of one unit and frame are a part; the instruction is an annotation by its number."""
    videos = {camera.name: {"original_key": image_key(camera.name)} for camera in embodiment.cameras}
    return {
        "state": _parts(embodiment.state),
        "action": _parts(embodiment.action),
        "video": videos,
        "annotation": {"human.task_description": {"original_key": "task_index"}},
    }


def _parts(dimensions: Sequence[Dimension]) -> dict[str, dict[str, int]]:
    parts: dict[str, dict[str, int]] = {}
    start = 0
    for _, group in groupby(dimensions, key=lambda dim: (dim.unit, dim.frame, dim.relative)):
        names = [dim.name for dim in group]
        name = _shared_name(names)
        if name in parts:
            name = f"{name}_{start}"
        parts[name] = {"start": start, "end": start + len(names)}
        start += len(names)
    return parts


def _shared_name(names: Sequence[str]) -> str:
    """The beginning that the names share, else the first and the last of them."""
    letters = takewhile(lambda column: len(set(column)) == 1, zip(*names, strict=False))
    shared = "".join(column[0] for column in letters).rstrip("_.0123456789")
    if len(shared) >= SHORTEST_NAME:
        return shared
    return names[0] if len(names) == 1 else f"{names[0]}_to_{names[-1]}"

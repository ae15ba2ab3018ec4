"""Gymnasium's spaces for observations and actions, with instructions that cross gymnasium's shared memory."""

import multiprocessing
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import create_shared_memory, read_from_shared_memory, write_to_shared_memory

from envs.specs import (
    COMMAND_DIM,
    COMMAND_KEY,
    ENVIRONMENT_STATE_KEY,
    STATE_KEY,
    TASK_KEY,
    EmbodimentSpec,
    depth_key,
    extrinsics_key,
    image_key,
    intrinsics_key,
    segmentation_key,
)

MAX_INSTRUCTION_CHARACTERS = 400
_CHARSET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ,.;:!?'-"
_CHARACTER_BYTES = 4


class InstructionSpace(spaces.Text):
    """Sentences that tasks are given in.

    In gymnasium's shared memory a plain ``Text`` is read once, before the first episode, and never again. Here the
    shared memory itself is an array of strings, one for each environment, which shows what was written last.
    """

    def __init__(self) -> None:
        super().__init__(MAX_INSTRUCTION_CHARACTERS, charset=_CHARSET)


@create_shared_memory.register(InstructionSpace)
def _create(space: InstructionSpace, n: int = 1, ctx: Any = multiprocessing) -> Any:
    return ctx.Array("B", n * space.max_length * _CHARACTER_BYTES)


@read_from_shared_memory.register(InstructionSpace)
def _read(space: InstructionSpace, shared_memory: Any, n: int = 1) -> np.ndarray:
    return np.frombuffer(shared_memory.get_obj(), dtype=f"U{space.max_length}", count=n)


@write_to_shared_memory.register(InstructionSpace)
def _write(space: InstructionSpace, index: int, value: str, shared_memory: Any) -> None:
    if not space.contains(value):
        raise ValueError(f"expected a sentence of at most {space.max_length} of the space's characters, got {value!r}")
    np.frombuffer(shared_memory.get_obj(), dtype=f"U{space.max_length}")[index] = value


def observation_space(embodiment: EmbodimentSpec, privileged_dim: int = 0, language: bool = True) -> spaces.Dict:
    """The space of one world's observation, by the keys of ``envs.specs``."""
    parts: dict[str, gymnasium.Space[Any]] = {
        STATE_KEY: _unbounded(embodiment.state_dim),
        COMMAND_KEY: _unbounded(COMMAND_DIM),
    }
    if language:
        parts[TASK_KEY] = InstructionSpace()
    if privileged_dim:
        parts[ENVIRONMENT_STATE_KEY] = _unbounded(privileged_dim)
    for camera in embodiment.cameras:
        size = (camera.height_px, camera.width_px)
        parts[image_key(camera.name)] = spaces.Box(0, 255, (*size, 3), np.uint8)
        parts[intrinsics_key(camera.name)] = _unbounded(3, 3)
        parts[extrinsics_key(camera.name)] = _unbounded(4, 4)
        if camera.depth:
            parts[depth_key(camera.name)] = spaces.Box(0, np.inf, size, np.float32)
        if camera.segmentation:
            parts[segmentation_key(camera.name)] = spaces.Box(-1, np.iinfo(np.int32).max, size, np.int32)
    return spaces.Dict(parts)


def action_space(embodiment: EmbodimentSpec) -> spaces.Box:
    """Actions in the embodiment's own units and bounds."""
    low, high = np.array(embodiment.action_low, np.float32), np.array(embodiment.action_high, np.float32)
    return spaces.Box(low, high, dtype=np.float32)


def _unbounded(*shape: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, shape, np.float32)

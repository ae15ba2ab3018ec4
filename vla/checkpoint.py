"""Weights on disk: safetensors, written atomically, read with every tensor checked."""

import math
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from vla.durable import write_atomically

NARROW = (torch.float16, torch.bfloat16)
"""What weights of 32 bits may be stored as, to take half of the room."""


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or of another network."""


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Store named tensors at ``path``, atomically."""
    write_atomically(path, safetensors.torch.save({name: x.detach().cpu().contiguous() for name, x in weights.items()}))


def read_weights(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors at ``path``, with the names, shapes and types of ``expected``; what is stored in 16 bits is widened.

    Raises ``CheckpointError`` that names the file and the first tensor that does not fit.
    """
    try:
        weights = safetensors.torch.load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"expected a safetensors file at {path}: {error}") from error
    if missing := sorted(expected.keys() - weights.keys()):
        raise CheckpointError(f"{path} lacks {len(missing)} tensors, among them {missing[0]}")
    if unknown := sorted(weights.keys() - expected.keys()):
        raise CheckpointError(f"{path} has {len(unknown)} tensors that the network lacks, among them {unknown[0]}")
    for name, tensor in expected.items():
        if weights[name].dtype in NARROW and tensor.dtype == torch.float32:
            weights[name] = weights[name].float()
        if _form(weights[name]) != _form(tensor):
            raise CheckpointError(f"{path}: expected {name} as {_form(tensor)}, got {_form(weights[name])}")
    return weights


def weight_sizes(path: Path) -> dict[str, int]:
    """How many numbers each tensor at ``path`` has; ``CheckpointError`` where it is no safetensors file."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {name: math.prod(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"expected a safetensors file at {path}: {error}") from error


def _form(tensor: Tensor) -> tuple[torch.dtype, tuple[int, ...]]:
    return tensor.dtype, tuple(tensor.shape)

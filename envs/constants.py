"""Small constant tensors, made once per device: copying one from the host in every step would stall a GPU."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


def constant(values: Sequence[Any], device: torch.device | str) -> Tensor:
    """``torch.tensor(values)`` on ``device``; shared by all callers, so never to be written to."""
    frozen = _frozen(values)
    return _made(frozen, _dtype(frozen), torch.device(device))


def _frozen(values: Any) -> Any:
    return tuple(_frozen(value) for value in values) if isinstance(values, Sequence) else values


def _dtype(values: Any) -> torch.dtype:
    """Part of the key, because 0, 0.0 and False are equal."""
    if isinstance(values, tuple):
        return max((_dtype(value) for value in values), key=_BY_WIDTH.index)
    return torch.bool if isinstance(values, bool) else torch.long if isinstance(values, int) else torch.float32


_BY_WIDTH = [torch.bool, torch.long, torch.float32]


@lru_cache(maxsize=4096)
def _made(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)

"""Pictures of arrays in any of the forms that files hold them in, as ours: uint8 RGB of one size."""

import numpy as np
import torch
from jaxtyping import Shaped, UInt8

from policies.data.sources.source import Size

CHANNELS = (1, 3, 4)
SMALLEST_PX = 8
"""Sides that are shorter belong to a matrix, not to a picture."""


def picture_size(shape: tuple[int, ...], dtype: np.dtype) -> Size | None:
    """Height and width of what may be colour pictures by one frame's shape and dtype, channels first or last."""
    if len(shape) != 3 or not (dtype == np.uint8 or dtype.kind == "f"):
        return None
    sides = shape[:2] if shape[2] in CHANNELS else shape[1:] if shape[0] in CHANNELS else (0, 0)
    return sides if min(sides) >= SMALLEST_PX else None


def rgb(stored: Shaped[np.ndarray, "t ..."], size: Size, white: float) -> UInt8[np.ndarray, "t h w 3"]:
    """Stored pictures as RGB of ``size``; ``white`` is the value of full brightness, 255 or 1.

    Grey becomes RGB and transparency is dropped. Shrinking averages areas. ``ValueError`` names the frame that has
    values beyond 0 … ``white``.
    """
    if stored.shape[-1] not in CHANNELS:
        stored = np.moveaxis(stored, 1, -1)
    stored = stored[..., :3] if stored.shape[-1] != 1 else np.repeat(stored, 3, -1)
    if stored.dtype != np.uint8:
        stored = _as_bytes(stored, white)
    return np.ascontiguousarray(stored) if stored.shape[1:3] == size else _resized(stored, size)


def white_of(stored: Shaped[np.ndarray, "t ..."]) -> float:
    """The value of full brightness that pictures of floats were written with, by some of them: 255 or 1."""
    return 255.0 if stored.dtype == np.uint8 or (stored.size and float(stored.max()) > 1.0) else 1.0


def _as_bytes(stored: Shaped[np.ndarray, "t h w c"], white: float) -> UInt8[np.ndarray, "t h w c"]:
    inside = (stored >= 0) & (stored <= white)  # false for what is no number
    if not inside.all():
        frame = int(np.argwhere(~inside)[0][0])
        raise ValueError(
            f"frame {frame} has values beyond 0 … {white:g}: {stored[frame].min():g} … {stored[frame].max():g}"
        )
    return np.rint(stored * (255.0 / white)).astype(np.uint8)


def _resized(pictures: UInt8[np.ndarray, "t h w 3"], size: Size) -> UInt8[np.ndarray, "t h w 3"]:
    planes = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float()
    smaller = torch.nn.functional.interpolate(planes, size, mode="area")
    return smaller.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()

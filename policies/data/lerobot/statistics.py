"""Statistics as LeRobot keeps them, of each episode and of all: exact ones, also where LeRobot merges or samples.

Vectors have one number per dimension, pictures one per channel, ``(3, 1, 1)`` with 0 … 255 as 0 … 1. Quantiles are
those of all values, linearly between two neighbours; standard deviations are the population's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num, UInt8

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
LARGEST = 1024
"""A field of more numbers than this per frame, as a depth picture, has no statistics."""

Statistics = Mapping[str, np.ndarray]
"""By name: min, max, mean, std, count, and the quantiles."""


def number_statistics(values: Num[np.ndarray, "t ..."]) -> Statistics:
    """Statistics of each of a field's numbers over axis 0; of ``(t,)`` they have the shape ``(1,)``."""
    exact = values.reshape(len(values), *(values.shape[1:] or (1,))).astype(np.float64)
    quantiles = np.quantile(exact, list(QUANTILES.values()), axis=0)
    return {
        "min": exact.min(0),
        "max": exact.max(0),
        "mean": exact.mean(0),
        "std": exact.std(0),
        "count": np.array([len(values)]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def pixel_counts(pictures: UInt8[np.ndarray, "t h w c"]) -> Int[np.ndarray, "c 256"]:
    """How often each channel has each value; those of several episodes add up."""
    channels = np.moveaxis(pictures, -1, 0).reshape(pictures.shape[-1], -1)
    return np.stack([np.bincount(channel, minlength=256) for channel in channels])


def picture_statistics(counts: Int[np.ndarray, "c 256"], frames: int) -> Statistics:
    """Statistics of the pictures that have these pixels; ``count`` is the number of ``frames``."""
    level, total = np.arange(256) / 255.0, counts.sum(1)
    mean = counts @ level / total
    variance = (counts * np.square(level - mean[:, None])).sum(1) / total
    columns: dict[str, Float[np.ndarray, " c"]] = {
        "min": level[(counts > 0).argmax(1)],
        "max": level[255 - (counts[:, ::-1] > 0).argmax(1)],
        "mean": mean,
        "std": np.sqrt(variance),
        **{name: _quantile(counts, share) for name, share in QUANTILES.items()},
    }
    return {name: column.reshape(-1, 1, 1) for name, column in columns.items()} | {"count": np.array([frames])}


def _quantile(counts: Int[np.ndarray, "c 256"], share: float) -> Float[np.ndarray, " c"]:
    place = share * (counts.sum(1) - 1)
    ends = counts.cumsum(1)
    lower, upper = ((ends <= at[:, None]).sum(1) / 255.0 for at in (np.floor(place), np.ceil(place)))
    return lower + (upper - lower) * (place - np.floor(place))


def as_lists(statistics: Statistics, names: Sequence[str] | None = None) -> dict[str, Any]:
    """JSON-ready; only ``names`` where given."""
    return {name: array.tolist() for name, array in statistics.items() if names is None or name in names}

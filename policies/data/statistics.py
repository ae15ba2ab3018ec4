"""Statistics of states and actions, by which a policy's inputs and outputs are normalised.

Quantiles are taken over all values of the data set at once; merging per-episode quantiles would not
give them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, kw_only=True)
class FieldStatistics:
    """Per-dimension statistics of one vector field over ``count`` frames, in the field's own units."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]
    q01: tuple[float, ...]
    q99: tuple[float, ...]
    count: int

    @classmethod
    def of(cls, values: Float[np.ndarray, "t d"]) -> "FieldStatistics":
        """Statistics over axis 0, computed in float64; ``std`` is the population's."""
        if values.ndim != 2 or len(values) == 0:
            raise ValueError(f"expected values of shape (t, d) with t ≥ 1, got {values.shape}")
        exact = values.astype(np.float64)
        q01, q99 = np.quantile(exact, (0.01, 0.99), axis=0)
        moments = {"mean": exact.mean(0), "std": exact.std(0), "min": exact.min(0), "max": exact.max(0)}
        columns = {name: tuple(column.tolist()) for name, column in (moments | {"q01": q01, "q99": q99}).items()}
        return cls(**columns, count=len(values))

    @property
    def dim(self) -> int:
        return len(self.mean)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; :meth:`from_dict` is its inverse."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "FieldStatistics":
        """Raises ``ValueError`` unless every column is there and all have one length."""
        names = {f.name for f in fields(cls)}
        if set(data) != names:
            raise ValueError(f"field statistics: expected the keys {sorted(names)}, got {sorted(data)}")
        columns = {name: tuple(float(x) for x in data[name]) for name in names - {"count"}}
        if len({len(column) for column in columns.values()}) != 1:
            lengths = {name: len(column) for name, column in sorted(columns.items())}
            raise ValueError(f"field statistics: expected columns of one length, got {lengths}")
        return cls(**columns, count=int(data["count"]))


@dataclass(frozen=True, kw_only=True)
class DatasetStatistics:
    """Statistics of a data set of so many episodes and frames."""

    episodes: int
    frames: int
    state: FieldStatistics
    action: FieldStatistics

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; :meth:`from_dict` is its inverse."""
        return {
            "episodes": self.episodes,
            "frames": self.frames,
            "state": self.state.to_dict(),
            "action": self.action.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "DatasetStatistics":
        return cls(
            episodes=int(data["episodes"]),
            frames=int(data["frames"]),
            state=FieldStatistics.from_dict(data["state"]),
            action=FieldStatistics.from_dict(data["action"]),
        )
